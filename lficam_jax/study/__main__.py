"""Trains, measures and compares whole families of networks; writes tables, plots and a page.

  lficam study --config study_NAME[:smoke] --workdir DIR

Trains plain, ABN and LFI networks, the ablations of FIN, and what else the config names (classwise,
say) under several settings, measures accuracy, faithfulness, localisation and stability of their
maps, and writes into DIR/results: study.json, index.html, study.md, tables/*.{md,csv,tex}, *.png.
Stop it whenever you like; the same command continues. Start it several times, on one machine or
on several that share DIR, and the processes share the runs; the last to finish compares. Each run
is an ordinary workdir, DIR/runs/MODEL/SETTING, which every mode of `lficam` opens.

Any key can be set: --config.measure.limit=64 --config.base.train.total_epochs=1
"""

from pathlib import Path

from ml_collections import ConfigDict

from lficam_jax import cli, config_file
from lficam_jax.errors import UserError


def main(words: list[str], prog: str = "python -m lficam_jax.study") -> int:
    """Carries out a study, or writes its report again; returns the exit code."""
    words, overrides = config_file.split_overrides(words)
    asked = _parser(prog).parse(words)
    if not asked.workdir:
        raise UserError("--workdir is missing; for example --workdir runs/study")
    if asked.report and asked.so_far:
        raise UserError("--so_far compares anew, --report compares nothing: give one of them")
    address = asked.workdir
    study = None if asked.report else config_file.configured(asked.config, overrides, study=True)
    from lficam_jax.devices.distributed import start
    from lficam_jax.devices.interrupt import Interrupted, stopping
    from lficam_jax.study import page
    from lficam_jax.workdir.remote import mirrored

    if study is not None:
        start(platform=study.base.parallel.platform)
    with mirrored(address, alone=study is not None) as here:
        workdir = Path(str(here))
        try:
            with stopping():
                if study is not None and not _compare(study, workdir, so_far_only=asked.so_far):
                    return 0
        except Interrupted as stop:
            print(stop)
            return stop.exit_code
        if not (workdir / "results" / "study.json").exists():
            raise UserError(f"{address}/results/study.json is not there; leave out --report")
        print(f"page  {page.report(workdir)}")
    return 0


def _parser(prog: str) -> cli.Parser:
    parser = cli.Parser(
        prog=prog, usage=f"{prog} [FLAGS] [--config.KEY=VALUE …]", description=__doc__
    )
    parser.add_argument("--config", metavar="NAME[:smoke]", help=config_file.HELP)
    parser.add_argument("--workdir", metavar="DIR", help="folder of the study")
    parser.add_argument(
        "--so_far", action="store_true", help="compares the settings that are done, trains nothing"
    )
    parser.add_argument(
        "--report", action="store_true", help="writes tables, plots and page again, from study.json"
    )
    return parser


def _compare(study: ConfigDict, workdir: Path, *, so_far_only: bool) -> bool:
    """Carries out what is missing, unless told not to, and compares what there is.

    Returns:
      False if other processes still carry out runs, and the last of them compares.
    """
    from lficam_jax.study.carry import carry_out, so_far
    from lficam_jax.study.plan import plan
    from lficam_jax.study.record import write_record
    from lficam_jax.workdir.compiled import keep_compiled
    from lficam_jax.workdir.lock import Busy, Lock

    runs = plan(study)
    planned = len(runs)
    if so_far_only:
        study, runs = so_far(study, runs, workdir)
    else:
        keep_compiled()  # settings that differ in the seed alone share their programs
        print(f"{planned} runs: {len(study.settings)} settings; {workdir}", flush=True)
        if others := carry_out(study, runs, workdir):
            runs_left = "run" if others == 1 else f"{others} runs"
            print(f"other processes do the last {runs_left}; the last of them compares all")
            return False
    try:
        with Lock(workdir / ".lock", workdir):
            print(f"comparing {len(runs)} runs", flush=True)
            write_record(study, runs, workdir, planned)
    except Busy as busy:
        print(f"{busy}: it compares the runs")
        return False
    return True


if __name__ == "__main__":
    cli.run(main)
