"""Where the time of our training step goes on a GPU, and what XLA's flags change.

  python benchmarks/step_profile.py resnet50:224:256 resnet110:32:128
  python benchmarks/step_profile.py resnet50:224:256 --flags='--xla_gpu_force_conv_nchw=true'

The step is that of compare_torch.py, bfloat16, LFI head. The first form profiles five steps and
prints how long the GPU computed in each, and the kernels that took longest. With --flags, which may
stand again and again, the step is compiled anew under each set in a process of its own and timed;
all are compiled before the first is timed, and the plain step is the first and the last of them.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import jax
from compare_torch import ours  # first: it settles what is in the path

from lficam_jax.workdir.table import aligned

STEPS, SHOWN = 5, 25
# What a kernel does, by a word in its name; the first that fits.
KINDS = {
    "convolution": r"conv|fprop|dgrad|wgrad|implicit|xmma|cudnn|winograd",
    "matrix product": r"gemm|cutlass|cublas|nvjet|dot",
    "copy and transpose": r"transpose|copy|memcpy|memset|concat|pad|slice",
    "reduction": r"reduce",
    "gather and scatter": r"gather|scatter|sort|select",
}


def profile(case: str, dtype: str) -> dict[str, Any]:
    """Profiles one step; returns milliseconds by kind and operation, and prints them."""
    step = ours(case, dtype)["step"]
    for _ in range(3):
        jax.block_until_ready(step())
    with TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            start = time.perf_counter()
            for _ in range(STEPS):
                out = step()
            jax.block_until_ready(out)
            wall = 1e3 * (time.perf_counter() - start) / STEPS
        (file,) = Path(folder).rglob("*.xplane.pb")
        events = list(device_events(jax.profiler.ProfileData.from_file(str(file))))
    kinds: Counter[str] = Counter()
    operations: Counter[str] = Counter()
    for kernel, operation, ms in events:
        kinds[kind_of(kernel)] += ms / STEPS
        operations[f"{operation}  {kernel[:80]}"] += ms / STEPS
    busy = kinds.total()
    calls = len(events) // STEPS
    print(f"\n{case}: {wall:.2f} ms a step, kernels {busy:.2f} ms in {calls} calls")
    rows = [["kind", "ms", "share"]]
    rows += [[name, f"{ms:.2f}", f"{ms / busy:.0%}"] for name, ms in kinds.most_common()]
    print(aligned(rows))
    for name, ms in operations.most_common(SHOWN):
        print(f"{ms:8.3f} ms  {name}")
    return {"case": case, "ms": wall, "busy_ms": busy, "kinds": kinds, "operations": operations}


def device_events(data: Any) -> Iterator[tuple[str, str, float]]:
    """Yields kernel, XLA's operation and milliseconds of all that ran on the device."""
    for plane in data.planes:
        for line in plane.lines if plane.name.startswith("/device:GPU") else ():
            for event in line.events if line.name.startswith("Stream") else ():
                yield event.name, dict(event.stats).get("hlo_op", ""), event.duration_ns / 1e6


def kind_of(kernel: str) -> str:
    """Says what a kernel does, as far as its name tells."""
    for kind, words in KINDS.items():
        if re.search(words, kernel.lower()):
            return kind
    return "elementwise"


def flagged(case: str, dtype: str, sets: list[str], seconds: float) -> list[dict[str, Any]]:
    """Times the step under each set of flags."""
    running = []
    for flags in ["", *sets, ""]:
        environment = {**os.environ, "XLA_FLAGS": flags}
        words = [sys.executable, __file__, case, "--dtype", dtype, "--timed", str(seconds)]
        process = subprocess.Popen(
            words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append((flags, process, ready(process)))  # one compiles at a time: it also measures
    rows = []
    for flags, process, words in running:
        answer, _ = process.communicate("go\n") if words else ("", None)
        found = json.loads(answer.splitlines()[-1]) if answer.strip() else {"ms": None}
        rows.append({"case": case, "flags": flags or "none", "compiled": words, **found})
        print(f"{case}  {found['ms'] or 'failed'} ms  {words}  {flags or 'no flags'}", flush=True)
    return rows


def ready(process: Any) -> str:
    """Waits until a process has compiled; returns its last line, '' if it died."""
    for line in process.stdout:
        if "compiled" in line:
            return str(line.strip())
    return ""


def timed(case: str, dtype: str, seconds: float) -> None:
    """Compiles, waits for a line, and prints the median of the step's milliseconds."""
    step = ours(case, dtype)["step"]
    sys.stdin.readline()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        jax.block_until_ready(step())
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps({"ms": round(median(times[2:]), 3), "steps": len(times) - 2}))


def main() -> None:
    """Parses the flags and profiles or times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", help="NETWORK:PIXELS:BATCH")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--flags", action="append", help="one set of XLA_FLAGS; may be repeated")
    parser.add_argument("--seconds", type=float, default=2.0, help="to time each set")
    parser.add_argument("--json", type=Path, help="where the numbers go as well")
    parser.add_argument("--timed", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.timed:
        timed(args.cases[0], args.dtype, args.timed)
        return
    found: list[dict[str, Any]] = []
    for case in args.cases:
        if args.flags:
            found += flagged(case, args.dtype, args.flags, args.seconds)
        else:
            found.append(profile(case, args.dtype))
        if args.json:
            args.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
