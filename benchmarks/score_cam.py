"""Our Score-CAM against torchcam's and pytorch-grad-cam's, the same network and batch, in turn.

  pip install torch; pip install --no-deps torchcam grad-cam ttach opencv-python-headless
  python benchmarks/score_cam.py [--images 4] [--depth 20] [--pixels 32]

Every implementation makes one forward pass per channel and image, 64 for this network; a ratio
above 1 means that ours is faster. CPU, float32, as many threads as there are cores.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import numpy as np
import torch
from torch_network import LFINetwork

from lficam_jax.methods import maps_of
from lficam_jax.models import create_model
from lficam_jax.models.classifier import init_variables
from lficam_jax.speed.timing import in_turn, ratio
from lficam_jax.workdir.table import aligned

CHUNKS = (16, 64)  # masked images in one forward pass


class Logits(torch.nn.Module):
    """The network without its map: both libraries want logits alone."""

    def __init__(self, network: LFINetwork) -> None:
        super().__init__()
        self.network, self.features = network, network.features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns logits."""
        return self.network(images)[0]


def ours(depth: int, images: np.ndarray, chunk: int) -> Callable[[], Any]:
    """Returns a program that draws our maps, `chunk` masked images at a time."""
    model = create_model("cifar_resnet", depth, "lfi", num_classes=10)
    variables = init_variables(model, images.shape[1:], seed=0)
    draw = jax.jit(lambda v, x: maps_of("score_cam", model, v, x, 1, chunk_size=chunk))
    return partial(draw, variables, jax.device_put(images))


def torchcam(network: Logits, images: torch.Tensor, chunk: int) -> Callable[[], Any]:
    """Returns a program that draws torchcam's maps."""
    from torchcam.methods import ScoreCAM

    extractor = ScoreCAM(
        network, network.features, input_shape=tuple(images.shape[1:]), batch_size=chunk
    )

    def program() -> Any:
        with torch.no_grad():
            return extractor([1] * len(images), network(images))

    return program


def grad_cam(network: Logits, images: torch.Tensor, chunk: int) -> Callable[[], Any]:
    """Returns a program that draws pytorch-grad-cam's maps."""
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules.setdefault(name, mock.MagicMock())  # imported for what is not used here
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    extractor = ScoreCAM(network, [network.features])
    extractor.batch_size = chunk
    return lambda: extractor(images, targets=[ClassifierOutputTarget(1)] * len(images))


def main() -> None:
    """Parses the flags, measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--pixels", type=int, default=32)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    shape = (args.images, args.pixels, args.pixels, 3)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    network = Logits(LFINetwork(args.depth, small=True, classes=10)).eval()
    network = network.to(memory_format=torch.channels_last)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    programs = {f"ours, {n} at a time": ours(args.depth, images, n) for n in CHUNKS}
    for make in (torchcam, grad_cam):
        programs |= {f"{make.__name__}, {n} at a time": make(network, pixels, n) for n in CHUNKS}
    print(f"{torch.get_num_threads()} threads, jax {jax.__version__}, torch {torch.__version__}")
    times = in_turn(programs, seconds=60)
    best = min(CHUNKS, key=lambda n: median(times[f"ours, {n} at a time"]))
    reference = times[f"ours, {best} at a time"]
    rows = [["", "ms/image", "times ours at its best"]]
    for name, seconds in times.items():
        each = 1e3 * median(seconds) / args.images
        rows.append([name, f"{each:.1f}", f"{ratio(seconds, reference):.2f}"])
    print(aligned(rows))


if __name__ == "__main__":
    main()
