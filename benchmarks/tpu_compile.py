"""Compiles the training step of every experiment of the paper for a TPU, without one.

  pip install 'jax[tpu]'                        # its compiler; needed here only
  python benchmarks/tpu_compile.py              # all, from cheap to expensive: hours on two cores
  python benchmarks/tpu_compile.py --only resnet18 stl10 --topology v6e-8
  python benchmarks/tpu_compile.py --table      # of what is there, compiles nothing

Each experiment is compiled at its own batch and dtype, then with 128 images per chip in bfloat16,
which fill the 128 lanes of a register. One process for each; the result of each is a line of
--out as soon as it is there, and what is there is not compiled again.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ["JAX_PLATFORMS"] = "cpu"

HEADS = ("lfi", "plain", "abn")
LANES = 128
# From cheap to expensive. Cats and dogs is STL-10's network with two classes, CIFAR-100 CIFAR-10's
# with a hundred; they come last.
EXPERIMENTS = (
    ("stl10", "resnet18"), ("imagenet", "resnet18"), ("cifar10", "resnext29"),
    ("cifar10", "wrn-28-10"), ("imagenet", "resnet50"), ("cifar10", "resnet110"),
    ("cifar10", "densenet"), ("imagenet", "se-resnet50"), ("imagenet", "resnet101"),
    ("imagenet", "resnet152"), ("cats_vs_dogs", "resnet18"), ("cifar100", "resnext29"),
    ("cifar100", "wrn-28-10"), ("cifar100", "resnet110"), ("cifar100", "densenet"),
)  # fmt: skip
Case = tuple[str, str, str, bool]  # config, backbone, head, whether the lanes are filled
TITLE = (
    "config", "backbone", "head", "dtype", "images per chip", "arguments", "temporaries",
    "of HBM", "GFLOP", "HBM traffic", "padding", "bound", "by", "compiled in",
)  # fmt: skip


def cases() -> Iterator[Case]:
    """Yields every experiment: the paper's head first, as it is and with filled lanes."""
    for head in HEADS:
        for filled in (False, True):
            yield from ((config, name, head, filled) for config, name in EXPERIMENTS)


def compile_case(case: Case, topology: str, out: Path) -> None:
    """Compiles one training step and appends its line."""
    from lficam_jax.devices.topology import devices, parse
    from lficam_jax.speed.compiled import compiled
    from lficam_jax.speed.lowering import Lowering

    name, backbone, head, filled = case
    config = importlib.import_module(f"configs.{name}").get_config(
        f"backbone={backbone},head={head}"
    )
    tpu = parse(topology)
    if filled:
        config.train.batch_size, config.model.dtype = LANES * tpu.chips, "bfloat16"
    ((_, batch, lower),) = Lowering(config, devices(tpu)).programs(["train"], [])
    found = {"batch": batch, "dtype": config.model.dtype, **compiled(lower, tpu.chip)}
    with out.open("a") as file:
        file.write(json.dumps({"case": case, "topology": str(tpu), **found}) + "\n")


def lines(out: Path) -> list[dict[str, Any]]:
    """Returns what is there."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def table(found: list[dict[str, Any]]) -> str:
    """Writes the results as Markdown."""
    rows = [TITLE, ["---"] * len(TITLE)]
    for each in found:
        start = [*each["case"][:3], each["dtype"], str(each["batch"])]
        if "refused" in each:
            rows.append([*start, "-", "-", f"**no**: {each['refused']}", *["-"] * 5])
        else:
            rows.append([*start, *_numbers(each)])
        rows[-1].append(f"{each['compile_seconds']:.0f} s")
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _numbers(each: dict[str, Any]) -> list[str]:
    held, scratch = (f"{each[key] / 2**30:.2f} GiB" for key in ("arguments", "temporaries"))
    return [
        held, scratch, f"{each['share']:.0%}", f"{each['flops'] / 1e9:,.0f}",
        f"{each['hbm_bytes'] / 1e9:.2f} GB", f"{each['padding']:.1f}",
        f"{1e3 * each['bound_seconds']:.1f} ms", each["bound_by"],
    ]  # fmt: skip


def main() -> None:
    """Parses the flags, compiles what is missing and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", default="v5e:2x4")
    parser.add_argument("--out", type=Path, default=Path("tpu_compile.jsonl"))
    parser.add_argument("--only", nargs="+", default=[], help="words of config, backbone, head")
    parser.add_argument("--table", action="store_true", help="print what is there")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        compile_case(tuple(json.loads(args.case)), args.topology, args.out)
        return
    done = {tuple(each["case"]) for each in lines(args.out)}
    wanted = [case for case in cases() if case not in done and {*args.only} <= {*case}]
    for number, case in enumerate([] if args.table else wanted, 1):
        print(f"{number} of {len(wanted)}: {' '.join(map(str, case[:3]))}", flush=True)
        # A process each: one that the system kills for its memory leaves the others their turn.
        words = ("--case", json.dumps(case), "--topology", args.topology, "--out", str(args.out))
        subprocess.run([sys.executable, __file__, *words], check=False)
    print(table(lines(args.out)))


if __name__ == "__main__":
    main()
