"""`lficam benchmark`: how fast a config's programs are here (docs/benchmarks.md)."""

from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

import jax
from ml_collections import ConfigDict

from lficam_jax.config.size import told
from lficam_jax.devices.parallel import check_divides
from lficam_jax.errors import UserError, nearest
from lficam_jax.measure.faithfulness import chosen
from lficam_jax.methods import LONG, METHODS, check
from lficam_jax.speed.programs import MAPS_BATCH, Program, Programs
from lficam_jax.speed.timing import compile_seconds, flops, in_turn, peak_flops, ratio
from lficam_jax.workdir.table import aligned

SECTIONS = ("forward", "methods", "measures", "train", "pipeline", "compile")
SECONDS = 5.0  # of rounds in each section; slow programs take at least three rounds
Row = dict[str, Any]


def run(
    config: ConfigDict, sections: Sequence[str] = (), methods: Sequence[str] = (),
    measures: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Measures and prints one table; asserts nothing.

    Args:
      config: whose network, sizes and batches are measured.
      sections: of `SECTIONS`; default: all.
      methods: keys of `methods.METHODS`; default: all that the network can give,
        without those that take very long (`methods.LONG`).
      measures: keys of `scoreboard.GROUPS`; default: all but the costly.

    Returns:
      `setting`, `rows` (section, name, batch, images_per_second, ms_per_image, ms, ratio) and
      `facts`, as they were printed.

    Raises:
      UserError: for an unknown section, method or measure, or a batch that the devices cannot
        share.
    """
    for name in sections:
        if name not in SECTIONS:
            raise UserError(f"section {name!r} is unknown{nearest(name, SECTIONS)}")
    check(*methods)
    parts = config.optim.accumulate
    check_divides("train.batch_size", config.train.batch_size, jax.device_count(), parts)
    bench = Benchmark(config, methods, measures)
    for name in sections or SECTIONS:
        print(f"measuring {name} …", flush=True)
        getattr(bench, name)()
    found = {"setting": bench.setting(), "rows": bench.rows, "facts": bench.facts}
    print(f"\n{text(found)}")
    return found


def text(found: Mapping[str, Any]) -> str:
    """Writes what `run` found for people."""
    rows = [["", "batch", "images/s", "ms/image", "ms", "ratio"]]
    for row in found["rows"]:
        numbers = f"{row['images_per_second']:,.1f}", f"{row['ms_per_image']:.3f}"
        more = f"{row['ms']:.1f}", f"{row['ratio']:.3f}"
        rows.append([f"{row['section']}: {row['name']}", str(row["batch"]), *numbers, *more])
    note = "ms: of one call; ratio: to the first row of its section; both are medians over rounds"
    table = [aligned(rows), note, ""] if found["rows"] else []
    facts = [f"{name}: {value}" for name, value in found["facts"].items()]
    return "\n".join([found["setting"], "", *table, *facts])


class Benchmark:
    """Each public method but `setting` measures one section into `rows` and `facts`."""

    def __init__(self, config: ConfigDict, methods: Sequence[str], measures: Sequence[str]) -> None:
        self._config, self._programs = config, Programs(config)
        self._methods, self._measures = methods, measures
        self.rows: list[Row] = []
        self.facts: dict[str, str] = {}

    def setting(self) -> str:
        """Says what was measured, and on what."""
        model, device = self._config.model, jax.devices()[0]
        return (
            f"{model.backbone}-{model.depth}, {model.head} head, {model.dtype}, "
            f"{told(self._programs.info.image_size)} pixels; {jax.device_count()} x "
            f"{device.device_kind} ({device.platform}); jax {jax.__version__}"
        )

    def forward(self) -> None:
        """Logits alone, with the own map, and of the same backbone without a head that attends."""
        size, make = self._config.train.batch_size, self._programs
        programs = {"logits": make.forward(lambda out: out.logits, size)}
        if self._config.model.head != "plain":
            programs["logits and own map"] = make.forward(
                lambda out: (out.logits, out.attention), size
            )
            plain = make.plain_head().forward(lambda out: out.logits, size)
            programs["same backbone, plain head"] = plain
        times = self._measure("forward", programs, size)
        rate = size / median(times["logits"])
        self._utilisation("forward pass", flops(make.lowered_forward()), rate)

    def methods(self) -> None:
        """Each map; those that the network cannot give are named, or refused if asked for."""
        size, make = MAPS_BATCH * jax.device_count(), self._programs
        programs = {"logits": make.forward(lambda out: out.logits, size)}
        for name in self._methods or [name for name in METHODS if name not in LONG]:
            try:
                programs[name] = make.draw(name, size)
            except UserError as error:
                if self._methods:
                    raise
                self.facts[f"without {name}"] = str(error)
        self._measure("methods", programs, size)

    def measures(self) -> None:
        """Each group of measures of one map that is quick to draw."""
        groups, note = chosen(self._measures, self._programs.info.has_mask)
        if note:
            self.facts["measures"] = note
        size = MAPS_BATCH * jax.device_count()
        name = "grad_cam" if self._config.model.head == "plain" else "own"
        programs = {f"{name} and one masked pass": self._programs.measure([], name, size)}
        programs |= {group: self._programs.measure([group], name, size) for group in groups}
        self._measure("measures", programs, size)

    def train(self) -> None:
        """One optimiser step."""
        size, make = self._config.train.batch_size, self._programs
        programs = {"logits": make.forward(lambda out: out.logits, size), "step": make.step}
        times = self._measure("train", programs, size)
        count, share = flops(make.lowered_step()), size // jax.device_count()
        rate = size / median(times["step"])
        self._utilisation("train step", count and count / share, rate)

    def pipeline(self) -> None:
        """The data alone and with the step, and how long the device waits for data."""
        try:
            loads, waited = self._programs.loading()
        except (UserError, ImportError) as error:
            self.facts["pipeline"] = f"left out, {error}"
            return
        programs = {"step on random images": self._programs.step, **loads}
        times = self._measure("pipeline", programs, self._config.train.batch_size)["data and step"]
        share = mean(waited[2:]) / median(times)  # the first two calls start the reader
        self.facts["waiting for data"] = f"{share:.1%} of the time of data and step"

    def compile(self) -> None:
        """Tracing and compiling the step, and the memory that it takes."""
        seconds, compiled = compile_seconds(self._programs.lowered_step)
        self.facts["compiling the step"] = (
            f"{seconds['cold']:.2f} s, from the persistent cache {seconds['warm']:.2f} s; "
            f"tracing before that {seconds['trace']:.2f} s"
        )
        size = compiled.memory_analysis()
        if size is not None:
            held, scratch = size.argument_size_in_bytes, size.temp_size_in_bytes
            self.facts["memory of the step"] = (
                f"{held / 2**20:,.1f} MiB of state and batch, {scratch / 2**20:,.1f} MiB "
                "of temporaries, on each device"
            )
        peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        if peak is not None:
            self.facts["peak memory"] = f"{peak / 2**20:,.1f} MiB, of all that ran before"

    def _measure(
        self, section: str, programs: Mapping[str, Program], batch: int
    ) -> dict[str, list[float]]:
        times = in_turn(programs, SECONDS)
        first = next(iter(times.values()))
        for name, seconds in times.items():
            each = median(seconds)
            self.rows.append({
                "section": section, "name": name, "batch": batch, "ms": 1e3 * each,
                "ms_per_image": 1e3 * each / batch, "images_per_second": batch / each,
                "ratio": ratio(seconds, first),
            })  # fmt: skip
        return times

    def _utilisation(self, name: str, count: float | None, images_per_second: float) -> None:
        if not count:
            return  # this backend does not count
        peak, source = peak_flops(self._config.model.dtype)
        rate = count * images_per_second / jax.device_count()
        self.facts[f"FLOPs of the {name}"] = (
            f"{count / 1e9:.3f} G per image, so {rate / 1e9:,.1f} GFLOP/s on each device: "
            f"{rate / peak:.0%} of {peak / 1e9:,.0f} ({source})"
        )
