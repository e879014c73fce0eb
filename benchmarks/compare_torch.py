"""Our forward pass and training step against PyTorch's, the same network and batch, in turn.

  pip install torch                                  # needed here only
  python benchmarks/compare_torch.py                 # CPU: ResNet-20 with the LFI head, float32
  python benchmarks/compare_torch.py --device cuda   # bfloat16: ResNet-110, -18 and -50

One line per case, `network:pixels:batch`, and program; a ratio above 1 means that ours is faster.
On CPU both sides use as many threads as there are cores. torch.compile is left out, with a note,
where it finds no compiler. All is compiled before anything is measured: ours in threads, torch's in
processes of its own, whose results its cache keeps. --json FILE is written anew after each case,
so that what was measured stays if the program is stopped.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
# Both frameworks share the GPU: jax must not take most of its memory at the start.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np
import optax
import torch
from torch_network import LFINetwork

from lficam_jax.devices.parallel import replicate, spmd
from lficam_jax.errors import first_line
from lficam_jax.models import create_model
from lficam_jax.models.classifier import init_variables, predict
from lficam_jax.speed.timing import in_turn, ratio
from lficam_jax.training.steps import create_state, make_train_step
from lficam_jax.workdir.table import aligned

CASES = {
    "cpu": ["resnet20:32:64"],
    "cuda": ["resnet110:32:128", "resnet110:32:1024", "resnet18:224:256", "resnet50:224:128"],
}
OPTIM = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
CLASSES = 10
Programs = dict[str, Callable[[], Any]]
Row = dict[str, Any]
MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def batch_of(case: str) -> tuple[int, np.ndarray, np.ndarray]:
    """Returns depth, random images `[b y x 3]` and labels `[b]` of `network:pixels:batch`."""
    name, pixels, size = case.split(":")
    random = np.random.default_rng(0)
    images = random.standard_normal((int(size), int(pixels), int(pixels), 3), np.float32)
    labels = random.integers(0, CLASSES, int(size), np.int32)
    return int(name.removeprefix("resnet")), images, labels


def ours(case: str, dtype: str) -> Programs:
    """Returns forward pass (logits and map) and step of this package, compiled, on the device."""
    depth, images, labels = batch_of(case)
    pixels = images.shape[1]
    family = "cifar_resnet" if pixels < 64 else "resnet"
    model = create_model(family, depth, "lfi", num_classes=CLASSES, dtype=dtype)
    variables = init_variables(model, (pixels, pixels, 3), seed=0)
    batch = {"image": jax.device_put(images), "label": jax.device_put(labels)}
    outputs = jax.jit(lambda v, x: (lambda o: (o.logits, o.attention))(predict(model, v, x)))
    tx = optax.chain(
        optax.add_decayed_weights(OPTIM["weight_decay"]),
        optax.sgd(OPTIM["lr"], momentum=OPTIM["momentum"]),
    )
    take = make_train_step(model, tx, lambda resident, batch, key: batch, seed=0)
    mapped = spmd(take, "shard_map", jax.devices()[:1], donate_state=True)
    held = [replicate(create_state(variables, tx), "shard_map", jax.devices()[:1])]
    start = time.perf_counter()
    lowered = (outputs.lower(variables, batch["image"]), mapped.lower(held[0], {}, batch))
    with ThreadPoolExecutor() as pool:
        forward, taken = pool.map(lambda program: program.compile(), lowered)
    print(f"{case}: ours compiled in {time.perf_counter() - start:.0f} s", flush=True)

    def step() -> Any:
        held[0], sums = taken(held[0], {}, batch)
        return sums

    return {"forward": partial(forward, variables, batch["image"]), "step": step}


def theirs(case: str, dtype: str, device: str, compiled: str) -> Programs:
    """Returns the same of the PyTorch network: channels_last, autocast for bfloat16.

    `compiled` is a mode of torch.compile; '' runs it as it is.
    """
    depth, images, labels = batch_of(case)
    network = LFINetwork(depth, images.shape[1] < 64, CLASSES).to(device)
    network = network.to(memory_format=torch.channels_last)
    x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)  # NHWC memory: channels_last
    y = torch.from_numpy(labels).long().to(device)
    optimizer = torch.optim.SGD(network.parameters(), **OPTIM, fused=device == "cuda")
    # One shape each: without dynamic=False a second batch size would be compiled for all sizes.
    run = torch.compile(network, mode=compiled, dynamic=False) if compiled else network
    cast = partial(torch.autocast, device, torch.bfloat16, enabled=dtype == "bfloat16")
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def forward() -> None:
        network.eval()
        with torch.inference_mode(), cast():
            run(x)
        wait()

    def step() -> None:
        network.train()
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = torch.nn.functional.cross_entropy(run(x)[0], y)
        loss.backward()
        optimizer.step()
        wait()

    return {"forward": forward, "step": step}


def compile_all(
    cases: Sequence[str], device: str, dtype: str, mode: str
) -> dict[str, Future[Programs]]:
    """Compiles both sides of all cases, as many at a time as there are; returns ours of each."""
    words = [sys.executable, __file__, "--device", device, "--dtype", dtype, "--fill_cache"]
    # where the device is what compiles, both sides would only wait for each other
    filling = {
        case: subprocess.Popen([*words, "--mode", mode, "--cases", case])
        for case in cases
        if mode and device != "cpu"
    }
    with ThreadPoolExecutor() as pool:
        made = {case: pool.submit(ours, case, dtype) for case in cases}
    for case, process in filling.items():
        if code := process.wait():  # out of memory, say: it is compiled below, one at a time
            print(f"{case}: torch's was not compiled ahead (exit code {code})", flush=True)
    return made


def fill_cache(case: str, device: str, dtype: str, mode: str) -> None:
    """Runs torch's compiled programs once, so that the next process finds them compiled."""
    start = time.perf_counter()
    for program in theirs(case, dtype, device, mode).values():
        program()
    print(f"{case}: torch's compiled in {time.perf_counter() - start:.0f} s", flush=True)


def compare(case: str, programs: dict[str, Programs], seconds: float) -> list[Row]:
    """Measures one case: milliseconds of each program, and how many times ours each takes."""
    rows = []
    for kind in ("forward", "step"):
        times = in_turn({name: each[kind] for name, each in programs.items()}, seconds)
        row: Row = {"case": case, "program": kind, "batch": int(case.split(":")[2])}
        row["ms"] = {name: 1e3 * median(found) for name, found in times.items()}
        row["ratio"] = {name: ratio(found, times["ours"]) for name, found in times.items()}
        rows.append(row)
        print(f"{case} {kind}: {row['ms']} ms, {row['ratio']}", file=sys.stderr, flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """Writes the rows for people."""
    head = ["case", "ours images/s", *(f"{n} ms" for n in NAMES), "eager/ours", "compiled/ours"]
    lines = [head]
    for row in rows:
        ms = [f"{row['ms'][n]:.1f}" if n in row["ms"] else "-" for n in NAMES]
        gains = [f"{row['ratio'][n]:.2f}" if n in row["ratio"] else "-" for n in NAMES[1:]]
        rate = f"{1e3 * row['batch'] / row['ms']['ours']:,.0f}"
        lines.append([f"{row['case']} {row['program']}", rate, *ms, *gains])
    return aligned(lines)


NAMES = ("ours", "eager", "compiled")


def compiler_works(device: str) -> bool:
    """Tells whether torch.compile can compile here, and prints why not."""
    try:
        torch.compile(lambda x: torch.relu(x) + 1)(torch.ones(3, device=device))
        return True
    except Exception as error:  # whatever is missing, a compiler or its headers
        print(f"torch.compile is left out: {first_line(error)}")
        return False


def main() -> None:
    """Parses the flags, measures all cases and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument(
        "--cases", nargs="+", help="NETWORK:PIXELS:BATCH, for example resnet20:32:64"
    )
    parser.add_argument("--eager_only", action="store_true", help="leave torch.compile out")
    parser.add_argument("--mode", choices=MODES, default="default", help="of torch.compile")
    parser.add_argument("--json", type=Path, help="where the numbers go as well")
    parser.add_argument("--seconds", type=float, default=15.0, help="of rounds, per program")
    parser.add_argument("--fill_cache", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    dtype = args.dtype or ("float32" if args.device == "cpu" else "bfloat16")
    jax.config.update("jax_platforms", args.device)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.recompile_limit = 64  # all networks share one forward method
    if args.fill_cache:
        fill_cache(args.cases[0], args.device, dtype, args.mode)
        return
    compiles = args.mode if not args.eager_only and compiler_works(args.device) else ""
    setting = (
        f"{jax.devices()[0].device_kind}, {torch.get_num_threads()} CPU threads; "
        f"jax {jax.__version__}, torch {torch.__version__}, compile mode {compiles or 'none'}; "
        f"{dtype}; LFI head"
    )
    print(setting, flush=True)
    cases = args.cases or CASES[args.device]
    rows: list[Row] = []
    made = compile_all(cases, args.device, dtype, compiles)
    for case in cases:
        try:
            programs = {"ours": made[case].result(), "eager": theirs(case, dtype, args.device, "")}
            if compiles:
                programs["compiled"] = theirs(case, dtype, args.device, compiles)
            rows += compare(case, programs, args.seconds)
        except (RuntimeError, jax.errors.JaxRuntimeError) as error:  # of memory, mostly
            print(f"{case}: left out: {first_line(error)}", flush=True)
        if args.json:
            args.json.write_text(json.dumps({"setting": setting, "rows": rows}, indent=2))
    print(table(rows))


if __name__ == "__main__":
    main()
