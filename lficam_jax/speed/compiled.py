"""What a TPU's compiler says of a config's programs, without a TPU: memory, work, traffic.

Nothing here is measured. The time is a bound: arithmetic at the data sheet's peak and traffic at
its bandwidth cannot take less; how much more they take, only a TPU tells.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.stages import Lowered
from ml_collections import ConfigDict

from lficam_jax.devices.topology import GIB, Chip, Topology, devices, parse
from lficam_jax.errors import UserError, nearest
from lficam_jax.methods import check
from lficam_jax.speed.hlo import Program
from lficam_jax.speed.lowering import SECTIONS, Lowering
from lficam_jax.speed.timing import no_cache
from lficam_jax.workdir.table import aligned

Row = dict[str, Any]


def compile_for(
    config: ConfigDict, name: str, sections: Sequence[str] = (), methods: Sequence[str] = ()
) -> dict[str, Any]:
    """Compiles a config's programs for a TPU that is not here, and prints what comes out.

    Args:
      config: of the run.
      name: of the TPU, as `devices.topology.parse` reads it.
      sections: of `SECTIONS`; default: all.
      methods: whose maps; default: the network's own, or grad_cam if it has none, and score_cam.

    Returns:
      `setting` (what was compiled for what) and `programs`: the rows of `compiled`.

    Raises:
      UserError: for an unknown name, a batch that the chips cannot share, or no TPU compiler.
    """
    for section in sections:
        if section not in SECTIONS:
            raise UserError(f"section {section!r} is unknown{nearest(section, SECTIONS)}")
    check(*methods)
    topology = parse(name)
    own = "grad_cam" if config.model.head == "plain" else "own"
    programs = Lowering(config, devices(topology)).programs(
        sections or SECTIONS, methods or (own, "score_cam")
    )
    rows = []
    for program, batch, lower in programs:
        print(f"compiling {program} …", flush=True)
        rows.append({"name": program, "batch": batch, **compiled(lower, topology.chip)})
    found = {"setting": _setting(config, topology), "programs": rows}
    print(f"\n{text(found)}")
    return found


def compiled(lower: Callable[[], Lowered], chip: Chip) -> Row:
    """Compiles a program and returns what the compiler says of one chip's share.

    Returns:
      Bytes: `arguments`, `temporaries`, `memory` (these, the code, and outputs that reuse no
      argument) and its `share` of the chip's; `fits`. `flops`; `bytes` that all operations read and
      write, as XLA counts; `hbm_bytes`, those that pass through HBM; `padding`, how many times
      larger tiling makes the arrays; what `roofline` says; `collectives`: kind -> count and bytes;
      `loops`, whose body counts once in all of these; `compile_seconds`. Where the compiler refuses
      for lack of memory: `fits`, `refused` (its words) and `compile_seconds`.
    """
    lowered, start = lower(), time.perf_counter()
    try:
        with no_cache():  # which cannot read again what was compiled for devices that are not here
            program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        seconds = time.perf_counter() - start
        return {"fits": False, "refused": _refused(str(error)), "compile_seconds": seconds}
    seconds, read = time.perf_counter() - start, Program(program.as_text() or "")
    size: Any = program.memory_analysis()
    cost: Any = program.cost_analysis()
    memory = (
        size.argument_size_in_bytes + size.temp_size_in_bytes + size.generated_code_size_in_bytes
        + size.output_size_in_bytes - size.alias_size_in_bytes
    )  # fmt: skip
    traffic = read.traffic()
    return {
        "arguments": size.argument_size_in_bytes, "temporaries": size.temp_size_in_bytes,
        "memory": memory, "share": memory / chip.memory, "fits": memory <= chip.memory,
        "bytes": cost["bytes accessed"], "padding": traffic["padded"] / traffic["arrays"],
        **roofline(cost["flops"], traffic["hbm"], chip), "collectives": read.collectives(),
        "loops": read.loops(), "compile_seconds": seconds,
    }  # fmt: skip


def roofline(flops: float, traffic: float, chip: Chip) -> Row:
    """Returns the least time that a program can take on a chip, and what decides it.

    Args:
      flops: floating-point operations.
      traffic: bytes through its memory.
      chip: its peak and bandwidth.

    Example: a chip of 100 FLOP/s and 10 bytes/s.
      >>> chip = Chip(memory=1, flops=100, bandwidth=10, axes=2, cores=1)
      >>> found = roofline(200, 50, chip)
      >>> found["intensity"], found["bound_seconds"], found["bound_by"]
      (4.0, 5.0, 'memory')
    """
    arithmetic, memory = flops / chip.flops, traffic / chip.bandwidth
    return {
        "flops": flops, "hbm_bytes": traffic, "intensity": flops / traffic,
        "bound_seconds": max(arithmetic, memory),
        "bound_by": "arithmetic" if arithmetic >= memory else "memory",
    }  # fmt: skip


def text(found: Mapping[str, Any]) -> str:
    """Writes what `compile_for` found for people: a column for each program."""
    programs = found["programs"]
    rows = [["per chip", *(row["name"] for row in programs)]]
    for key, (name, show) in LINES.items():
        cells = (show(row[key]) if key in row else "-" for row in programs)
        stars = ("*" if key in TURNS and row.get("loops") else "" for row in programs)
        rows.append([name, *(cell + star for cell, star in zip(cells, stars, strict=True))])
    notes = [f"{row['name']}: {row['refused']}" for row in programs if "refused" in row]
    if any(row.get("loops") for row in programs):
        notes.append("*             a loop's turns are counted as one")
    return "\n".join([found["setting"], "", aligned(rows), *notes, NOTE])


NOTE = """\
HBM traffic   what the operations read from and write to HBM; XLA's bytes also hold what stays on
              the chip between two of them
padding       how many times larger tiles of 8 x 128 and the like make the arrays
bound         the least time by the data sheet's peak and bandwidth; nothing was measured"""


def _gib(count: float) -> str:
    return f"{count / GIB:.3f} GiB"


def _gb(count: float) -> str:
    return f"{count / 1e9:.3f} GB"


def _together(found: Mapping[str, Mapping[str, int]]) -> str:
    each = (f"{v['count']} {k}, {v['bytes'] / 2**20:.1f} MiB" for k, v in found.items())
    return "; ".join(each) or "none"


LINES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "batch": ("images", str),
    "arguments": ("arguments", _gib),
    "temporaries": ("temporaries", _gib),
    "memory": ("memory in all", _gib),
    "share": ("of its HBM", "{:.1%}".format),
    "fits": ("fits", lambda fits: "yes" if fits else "NO"),
    "flops": ("FLOPs", lambda count: f"{count / 1e9:.1f} G"),
    "bytes": ("XLA's bytes", _gb),
    "hbm_bytes": ("HBM traffic", _gb),
    "intensity": ("FLOP per byte of it", "{:,.1f}".format),
    "padding": ("padding", "{:.2f}".format),
    "bound_seconds": ("bound", lambda seconds: f"{1e3 * seconds:.3f} ms"),
    "bound_by": ("bound by", str),
    "collectives": ("collectives", _together),
    "compile_seconds": ("compiled in", "{:.0f} s".format),
}
TURNS = ("flops", "bytes", "hbm_bytes", "intensity", "bound_seconds", "collectives")


def _setting(config: ConfigDict, topology: Topology) -> str:
    model, chip = config.model, topology.chip
    sheet = (
        f"{chip.memory / GIB:.0f} GiB, {chip.flops / 1e12:.0f} TFLOP/s (bfloat16), "
        f"{chip.bandwidth / 1e9:,.0f} GB/s"
    )
    return (
        f"{model.backbone}-{model.depth}, {model.head} head, {model.dtype}, "
        f"{config.parallel.mode}; {topology}: {topology.chips} chips of {sheet}; "
        f"jax {jax.__version__}"
    )


def _refused(message: str) -> str:
    """Returns the compiler's words about the memory that is missing."""
    found = re.search(r"Used [\d.]+\w of [\d.]+\w \w+", message)
    return found[0] if found else message.splitlines()[0]
