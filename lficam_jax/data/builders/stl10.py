"""STL-10 from its binary archive: TFDS's data set, without TensorFlow.

The 100,000 unlabelled pictures are left out: nothing here trains without labels.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from lficam_jax.data.builders.archives import read_tar

_MEMBERS = ("class_names.txt", "train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")

_Stock: Any = tfds.builder_cls("stl10")  # looked up, and so registered, beforehand
with tfds.core.registered.skip_registration():

    class Builder(_Stock):
        """TFDS's own builder but for the reading of the archive."""

        name = "stl10"
        pkg_dir_path = _Stock.pkg_dir_path  # where TFDS keeps the description
        FILES = ("stl10_binary.tar.gz",)
        files: Mapping[str, Path] = {}  # FILES -> where they lie; set by whoever prepares

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
            contents = read_tar(self.files[self.FILES[0]], _MEMBERS)
            self.info.features["label"].names = contents["class_names.txt"].decode().split()
            return {
                split: self._generate_examples(
                    contents[f"{split}_X.bin"], contents[f"{split}_y.bin"]
                )
                for split in ("train", "test")
            }

        def _generate_examples(
            self, images: bytes, labels: bytes
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            columns = np.frombuffer(images, np.uint8).reshape(-1, 3, 96, 96)  # column by column
            pictures = columns.transpose(0, 3, 2, 1)
            for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
                image = Image.fromarray(np.ascontiguousarray(picture))
                yield i, {"image": image, "label": label - 1}  # counted from 1
