"""Our Score-CAM and Grad-CAM against torchcam's and pytorch-grad-cam's, in turn.

  pip install torch; pip install --no-deps torchcam grad-cam ttach opencv-python-headless
  python benchmarks/score_cam.py [--images 4] [--depth 20] [--pixels 32] [--device cuda]

The same network and batch in float32. Every Score-CAM makes one forward pass per channel and image,
64 for this network. A ratio above 1 means that ours is faster. On a CPU all use as many threads as
there are cores; on a GPU jax and torch may both use TF32, as they do by default.
"""

import argparse
import json
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
# Both frameworks share the GPU: jax must not take most of its memory at the start.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("TQDM_DISABLE", "1")  # pytorch-grad-cam shows a bar for each image

import jax
import numpy as np
import torch
from torch_network import LFINetwork

from lficam_jax.methods import maps_of
from lficam_jax.models import create_model
from lficam_jax.models.classifier import init_variables
from lficam_jax.speed.timing import in_turn, ratio
from lficam_jax.workdir.table import aligned

CHUNKS = (16, 64)  # masked images in one forward pass of Score-CAM
KINDS = ("score_cam", "grad_cam")
CLASS = 1  # whose maps are drawn
Program = Callable[[], Any]


class Logits(torch.nn.Module):
    """The network without its map: both libraries want logits alone."""

    def __init__(self, network: LFINetwork) -> None:
        super().__init__()
        self.network, self.features = network, network.features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns logits."""
        return self.network(images)[0]


def ours(kind: str, depth: int, images: np.ndarray, chunk: int) -> Program:
    """Returns a program that draws our maps, `chunk` masked images at a time."""
    model = create_model("cifar_resnet", depth, "lfi", num_classes=10)
    variables = init_variables(model, images.shape[1:], seed=0)
    draw = jax.jit(lambda v, x: maps_of(kind, model, v, x, CLASS, chunk_size=chunk))
    return partial(draw, variables, jax.device_put(images))


def torchcam(kind: str, network: Logits, images: torch.Tensor, chunk: int) -> Program:
    """Returns a program that draws torchcam's maps."""
    from torchcam.methods import GradCAM, ScoreCAM

    shape, classes = tuple(images.shape[1:]), [CLASS] * len(images)

    def program() -> None:
        # Made anew for each call, as its hooks must not listen while another program runs.
        if kind == "score_cam":
            extractor = ScoreCAM(network, network.features, input_shape=shape, batch_size=chunk)
        else:
            extractor = GradCAM(network, network.features, input_shape=shape)
        with extractor, torch.set_grad_enabled(kind == "grad_cam"):
            _wait(extractor(classes, network(images)))

    return program


def grad_cam(kind: str, network: Logits, images: torch.Tensor, chunk: int) -> Program:
    """Returns a program that draws pytorch-grad-cam's maps."""
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules.setdefault(name, mock.MagicMock())  # imported for what is not used here
    from pytorch_grad_cam import GradCAM, ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(CLASS)] * len(images)

    def program() -> None:
        maker = ScoreCAM if kind == "score_cam" else GradCAM
        with maker(network, [network.features]) as extractor:
            extractor.batch_size = chunk
            _wait(extractor(images, targets=targets))

    return program


def _wait(maps: Any) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare(kind: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures one kind of map."""
    shape = (args.images, args.pixels, args.pixels, 3)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    network = Logits(LFINetwork(args.depth, small=True, classes=10)).eval().to(args.device)
    network = network.to(memory_format=torch.channels_last)
    pixels = torch.from_numpy(images).to(args.device).permute(0, 3, 1, 2)
    chunks = args.chunks if kind == "score_cam" else [0]
    named = [(f", {n} at a time" if n else "", n) for n in chunks]
    programs = {f"ours{words}": ours(kind, args.depth, images, n or 1) for words, n in named}
    for make in (torchcam, grad_cam):
        programs |= {
            f"{make.__name__}{words}": make(kind, network, pixels, n) for words, n in named
        }
    times = in_turn(programs, args.seconds)
    best = min((name for name in times if name.startswith("ours")), key=lambda n: median(times[n]))
    return [
        {
            "maps": kind, "program": name, "ms_per_image": 1e3 * median(found) / args.images,
            "ratio": ratio(found, times[best]),
        }
        for name, found in times.items()
    ]  # fmt: skip


def main() -> None:
    """Parses the flags, measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--chunks", type=int, nargs="+", default=CHUNKS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--seconds", type=float, default=60.0, help="of rounds, for each kind")
    parser.add_argument("--json", type=Path, help="where the numbers go as well")
    args = parser.parse_args()
    jax.config.update("jax_platforms", args.device)
    warnings.simplefilter("ignore")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    setting = (
        f"{jax.devices()[0].device_kind}, {torch.get_num_threads()} CPU threads; "
        f"ResNet-{args.depth}, {args.pixels} pixels, {args.images} images, float32; "
        f"jax {jax.__version__}, torch {torch.__version__}"
    )
    print(setting, flush=True)
    found: list[dict[str, Any]] = []
    for kind in args.kinds:
        found += compare(kind, args)
        if args.json:
            args.json.write_text(json.dumps({"setting": setting, "rows": found}, indent=2))
    rows = [["", "ms/image", "times ours at its best"]]
    for row in found:
        name = f"{row['maps']}: {row['program']}"
        rows.append([name, f"{row['ms_per_image']:.1f}", f"{row['ratio']:.2f}"])
    print(aligned(rows))


if __name__ == "__main__":
    main()
