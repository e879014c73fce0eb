"""Explains 10,000 images in a loop; prints the memory held and the programs compiled as it goes.

    nice python benchmarks/flat_memory.py

Random images, eight in each call, and weights as they were drawn: neither memory nor programs
depend on them. It ends with an error if anything is compiled after the first call.
"""

import gc
from pathlib import Path

import jax
import numpy as np

import lficam_jax as lfi
from lficam_jax.explaining import look

IMAGES, EACH, EVERY = 10_000, 8, 2_000
METHODS = ["own", "grad_cam", "gradient"]


def held() -> float:
    """Returns the MiB that the process holds, as Linux counts them."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    """Runs the loop."""
    model = lfi.create_model("cifar_resnet", 8, head="lfi", num_classes=10)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 32, 32, 3)))
    random, fed = np.random.default_rng(0), lfi.Preprocess(image_size=32)
    compiled = 0
    for done in range(0, IMAGES, EACH):
        pixels = random.integers(0, 256, (EACH, 40, 48, 3), np.uint8)
        e = lfi.explain(model, variables, pixels, preprocess=fed, method=METHODS)
        assert len(e) == EACH * len(METHODS)
        if done == 0:
            compiled = look._kept._cache_size()
        assert look._kept._cache_size() == compiled, "something was compiled anew"
        if (done + EACH) % EVERY == 0 or done == 0:
            gc.collect()
            print(f"{done + EACH:6,} images  {held():7.1f} MiB  {compiled} program", flush=True)


if __name__ == "__main__":
    main()
