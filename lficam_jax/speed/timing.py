"""Clocks for programs: in turn, medians of ratios, and what a device could do at most."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp

LEAST, MOST = 3, 15  # rounds
SHORT = 0.1  # seconds; a program that takes less is called again and again in its turn
# Side of the matrices whose product measures an unknown device; small ones leave a GPU idle.
MATRIX = {"cpu": 1024, "other": 8192}

# Dense peak in bfloat16, FLOP/s of one jax device, by the beginning of its `device_kind`; the more
# special name first. From the makers' data sheets, without sparsity.
PEAKS = {
    "NVIDIA H100 PCIe": 756e12, "NVIDIA H100 NVL": 835e12, "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12, "NVIDIA A100": 312e12, "NVIDIA L40S": 362e12, "NVIDIA L4": 121e12,
    "TPU v4": 275e12, "TPU v5 lite": 197e12, "TPU v5": 459e12, "TPU v6": 918e12,
}  # fmt: skip


def in_turn(programs: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, list[float]]:
    """Runs all programs once each, round after round, and waits for what each returns.

    A machine's speed drifts while it is measured; programs that take turns drift together. What is
    short runs several times in its turn, and the fastest counts: others on the machine may take the
    processor away at any time. One call of each compiles and a second is thrown away.

    Args:
      programs: by name.
      seconds: that the rounds may take; at least `LEAST` and at most `MOST` rounds are run.

    Returns:
      The seconds of one call, for each round.
    """
    for program in programs.values():
        _clock(program)
    rounds = int(seconds / sum(_clock(program) for program in programs.values()))
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(min(max(rounds, LEAST), MOST)):
        for name, program in programs.items():
            times[name].append(_turn(program))
    return times


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Returns the median over the rounds of ours / theirs.

    >>> ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    2.0
    """
    return median(a / b for a, b in zip(ours, theirs, strict=True))


@cache
def peak_flops(dtype: str) -> tuple[float, str]:
    """Returns the FLOP/s that one device could do at most, and where the number comes from.

    The table knows bfloat16 only; anything else is the rate of a large matrix product, which was
    measured just now and so is a little less than the device's peak.
    """
    device = jax.devices()[0]
    for start, peak in PEAKS.items():
        if device.device_kind.startswith(start) and dtype == "bfloat16":
            return peak, f"data sheet of {start}"
    side = MATRIX.get(device.platform, MATRIX["other"])
    matrix = jnp.ones((side, side), dtype)
    product = jax.jit(jnp.dot)
    times = in_turn({"product": lambda: product(matrix, matrix)}, seconds=0.5)["product"]
    return 2 * side**3 / min(times), f"a {side}x{side} matrix product in {dtype}, measured"


def flops(lowered: Any) -> float | None:
    """Returns the floating-point operations of a lowered program, as XLA counts them."""
    found = lowered.cost_analysis()
    return found.get("flops") if isinstance(found, dict) else None


def compile_seconds(lower: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Compiles a program twice: into an empty persistent cache, and out of it.

    Args:
      lower: traces and lowers the program afresh, `jax.jit(f).lower(...)`.

    Returns:
      Seconds to `trace`, to compile `cold` and `warm`; and the compiled program.
    """
    with _empty_cache():
        start = time.perf_counter()
        lowered = lower()
        traced = time.perf_counter()
        lowered.compile()
        seconds = {"trace": traced - start, "cold": time.perf_counter() - traced}
        lowered = lower()
        start = time.perf_counter()
        compiled = lowered.compile()
        return seconds | {"warm": time.perf_counter() - start}, compiled


@contextmanager
def no_cache() -> Iterator[None]:
    """Compiles afresh: no program is kept, none is taken from the persistent cache."""
    with _settings({"jax_enable_compilation_cache": False}):
        yield


@contextmanager
def _empty_cache() -> Iterator[None]:
    with TemporaryDirectory() as folder:
        settings = {
            "jax_compilation_cache_dir": folder, "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }  # fmt: skip
        with _settings(settings):
            yield


@contextmanager
def _settings(values: Mapping[str, Any]) -> Iterator[None]:
    from jax.experimental.compilation_cache import compilation_cache

    before = {name: getattr(jax.config, name) for name in values}
    try:
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # it remembers what it found at first
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def _turn(program: Callable[[], Any]) -> float:
    start, fastest = time.perf_counter(), _clock(program)
    while time.perf_counter() - start < SHORT:
        fastest = min(fastest, _clock(program))
    return fastest


def _clock(program: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(program())
    return time.perf_counter() - start
