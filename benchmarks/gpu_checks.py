"""What must hold on a GPU: torch's numbers, bfloat16 beside float32, `pmap` beside `shard_map`.

  python benchmarks/gpu_checks.py parity [--device cuda]     # needs torch
  python benchmarks/gpu_checks.py mappings [--device cuda]

`parity` gives the networks of tests/torch_reference.py and ours the same weights and images.
Torch on the CPU in float32 is the reference; ours runs on the device in float32 with exact products
(which must agree to 1e-3), as jax multiplies by default (TF32 on a GPU), and in bfloat16.
`mappings` takes the training step in turn through both. The exit code is 1 if parity is broken.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np

from lficam_jax.config import default_config
from lficam_jax.interop.torch import variables_from_torch
from lficam_jax.models import create_model
from lficam_jax.models.classifier import predict
from lficam_jax.speed.programs import Programs
from lficam_jax.speed.timing import in_turn, ratio
from lficam_jax.workdir.table import aligned

CLASSES = 10
# Backbone, depth, head, options, pixels, images.
NETWORKS = (
    ("cifar_resnet", 20, "lfi", {}, 32, 32), ("cifar_resnet", 110, "lfi", {}, 32, 32),
    ("cifar_densenet", 22, "lfi", {"growth": 12}, 32, 32), ("resnet", 18, "lfi", {}, 224, 8),
    ("resnet", 18, "abn", {}, 224, 8),
)  # fmt: skip
TINY = (("cifar_resnet", 8, "lfi", {}, 16, 4), ("cifar_resnet", 8, "abn", {}, 16, 4))
LEAST = 1e-3  # largest difference from the reference, as a share of the largest value
Row = dict[str, Any]
Network = tuple[str, int, str, dict[str, Any], int, int]


def parity(tiny: bool) -> list[Row]:
    """Compares logits and maps of all networks, compiled side by side; prints each in its turn."""
    kinds = (("float32", "highest"), ("float32", None), ("bfloat16", None))
    rows = []
    with ThreadPoolExecutor(4) as pool:
        waiting = []
        for network in TINY if tiny else NETWORKS:
            state, images, expected = _reference(network)
            for dtype, precision in kinds:
                found = pool.submit(_outputs, network, state, images, dtype, precision)
                waiting.append((network, dtype, precision, expected, found))
        for (backbone, depth, head, *_), dtype, precision, expected, found in waiting:
            row = {"network": f"{backbone}-{depth} {head}", "dtype": dtype}
            row["products"] = precision or "default"
            rows.append(row | _differences(found.result(), expected))
            print(rows[-1], flush=True)
    return rows


def _reference(network: Network) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]]:
    """Returns weights, images and the outputs that torch computes from them on the CPU."""
    import torch

    from tests import torch_reference

    backbone, depth, head, options, pixels, count = network
    reference = torch_reference.Network(backbone, depth, head, CLASSES, **options)
    state = torch_reference.randomise(reference, 0).state_dict()
    images = np.random.default_rng(1).standard_normal((count, pixels, pixels, 3), np.float32)
    with torch.no_grad():
        expected = reference.eval()(torch.from_numpy(images).permute(0, 3, 1, 2))
    return {name: value.numpy() for name, value in state.items()}, images, expected


def _outputs(
    network: Network, state: dict[str, np.ndarray], images: np.ndarray, dtype: str,
    precision: str | None,
) -> Any:  # fmt: skip
    """Returns ours of the same weights and images."""
    backbone, depth, head, options, _, _ = network
    model = create_model(backbone, depth, head, num_classes=CLASSES, dtype=dtype, **options)
    variables = variables_from_torch(state, model)
    with jax.default_matmul_precision(precision):
        return jax.jit(partial(predict, model))(variables, images)


def _differences(found: Any, expected: dict[str, Any]) -> Row:
    logits, theirs = np.asarray(found.logits), expected["logits"].numpy()
    maps, their_maps = np.asarray(found.attention), expected["attention"].numpy()
    pairs = zip(maps, their_maps.reshape(maps.shape), strict=True)
    return {
        "logits": float(np.abs(logits - theirs).max() / np.abs(theirs).max()),
        "map": float(np.abs(maps - their_maps.reshape(maps.shape)).max()),
        "map_correlation": float(np.mean([np.corrcoef(a.ravel(), b.ravel()) for a, b in pairs])),
        "same_class": float(np.mean(logits.argmax(1) == theirs.argmax(1))),
    }  # fmt: skip


def mappings(tiny: bool, seconds: float) -> list[Row]:
    """Times one training step of one network under both mappings, in turn."""
    programs = {}
    for mode in ("pmap", "shard_map"):
        config = default_config()
        config.data.name, config.parallel.mode = "cifar10", mode
        config.model.depth, config.train.batch_size = (8, 16) if tiny else (20, 512)
        config.model.dtype = "bfloat16"
        programs[mode] = Programs(config).step
    times = in_turn(programs, seconds)
    rows = [
        {"mapping": mode, "ms": 1e3 * median(found), "ratio": ratio(found, times["pmap"])}
        for mode, found in times.items()
    ]
    print(aligned([["mapping", "ms", "ratio"], *([f"{v}" for v in row.values()] for row in rows)]))
    return rows


def main() -> int:
    """Parses the flags, checks and writes; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("parity", "mappings"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--tiny", action="store_true", help="networks for a dry run")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    jax.config.update("jax_platforms", args.device)
    setting = f"{jax.devices()[0].device_kind}; jax {jax.__version__}"
    print(setting, flush=True)
    rows = parity(args.tiny) if args.what == "parity" else mappings(args.tiny, args.seconds)
    if args.json:
        args.json.write_text(json.dumps({"setting": setting, "rows": rows}, indent=2))
    broken = [
        r for r in rows if r.get("products") == "highest" and max(r["logits"], r["map"]) > LEAST
    ]
    for row in broken:
        print(f"differs from torch: {row}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
