"""One CPU device with threads against one device for each core: the same training step, in turn.

  python benchmarks/cpu_devices.py [--devices 2] [--pairs 30] [--cases resnet20:32:64 resnet8:48:32]

Two processes are kept, one with a single jax device and one with --devices of them among which
`shard_map` splits the batch; they take turns, so that both meet the same other programs, and every
step is waited for. Printed: the median over the pairs of time with one device / time with several,
and the quartiles. Above 1 several devices are faster.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def serve(case: str, devices: int) -> None:
    """Takes as many steps as each line of standard input says; answers with the seconds of one."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    from lficam_jax.config import default_config
    from lficam_jax.speed.programs import Programs

    name, pixels, batch = case.split(":")
    config = default_config()
    config.data.name, config.data.image_size = "cifar10", int(pixels)
    config.model.depth = int(name.removeprefix("resnet"))
    config.train.batch_size, config.parallel.mode = int(batch), "shard_map"
    step = Programs(config).step
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            jax.block_until_ready(step())
        print((time.perf_counter() - start) / int(line), flush=True)


def compare(case: str, devices: int, pairs: int, steps: int) -> dict[str, object]:
    """Runs both processes in turn; which of them begins alternates."""
    servers = {
        count: subprocess.Popen(
            [sys.executable, __file__, "--serve", str(count), "--cases", case],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for count in (1, devices)
    }  # fmt: skip

    def seconds(count: int, steps: int) -> float:
        server = servers[count]
        server.stdin.write(f"{steps}\n")
        server.stdin.flush()
        return float(server.stdout.readline())

    for count in servers:
        seconds(count, 2)  # compiles
    times: dict[int, list[float]] = {count: [] for count in servers}
    for pair in range(pairs):
        for count in list(servers)[:: 1 if pair % 2 else -1]:
            times[count].append(seconds(count, steps))
    for server in servers.values():
        server.stdin.close()
        server.wait()
    ratios = [a / b for a, b in zip(times[1], times[devices], strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return {
        "case": case, "pairs": pairs, "ms_one_device": 1e3 * median(times[1]),
        f"ms_{devices}_devices": 1e3 * median(times[devices]), "ratio": median(ratios),
        "quartiles": [low, high], "load": os.getloadavg()[0],
    }  # fmt: skip


def main() -> None:
    """Parses the flags, measures and prints one line of JSON for each case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--steps", type=int, default=3, help="in one turn")
    parser.add_argument("--cases", nargs="+", default=["resnet20:32:64", "resnet8:48:32"])
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.cases[0], args.serve)
        return
    for case in args.cases:
        print(json.dumps(compare(case, args.devices, args.pairs, args.steps)), flush=True)


if __name__ == "__main__":
    main()
