"""SVHN, cropped to 32×32, from its MATLAB files: TFDS's data set, without TensorFlow.

The split `extra` (531,131 easier pictures, 1.3 GB) is left out: no recipe here trains on it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

_Stock: Any = tfds.builder_cls("svhn_cropped")  # looked up, and so registered, beforehand
with tfds.core.registered.skip_registration():

    class Builder(_Stock):
        """TFDS's own builder but for the reading of the files."""

        name = "svhn_cropped"
        pkg_dir_path = _Stock.pkg_dir_path  # where TFDS keeps the description
        FILES = ("train_32x32.mat", "test_32x32.mat")
        files: Mapping[str, Path] = {}  # FILES -> where they lie; set by whoever prepares

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
            return {split: self._generate_examples(split) for split in ("train", "test")}

        def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
            from scipy.io import loadmat

            content = loadmat(self.files[f"{split}_32x32.mat"])
            images = np.moveaxis(content["X"], -1, 0)
            labels = content["y"].ravel() % 10  # the publishers call the digit zero 10
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                picture = Image.fromarray(np.ascontiguousarray(image))
                yield i, {"id": f"{split}_{i:06d}", "image": picture, "label": int(label)}
