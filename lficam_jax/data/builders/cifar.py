"""CIFAR-10 and CIFAR-100 from their binary archives: TFDS's data sets, without TensorFlow."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from lficam_jax.data.builders.archives import read_tar

_PIXELS = 3 * 32 * 32

# Looked up, and so registered under their names, before the registration is switched off.
_Stock10: Any = tfds.image_classification.Cifar10
_Stock100: Any = tfds.image_classification.Cifar100


class _Binary:
    """Reads the binary archives; what they hold is described by the stock builder's own table."""

    FILES: tuple[str, ...]
    files: Mapping[str, Path] = {}  # FILES -> where they lie; set by whoever prepares

    def _split_generators(self: Any, dl_manager: Any) -> dict[str, Iterator[Any]]:
        layout = self._cifar_info
        names = (*layout.label_files, *layout.train_files, *layout.test_files)
        contents = read_tar(self.files[self.FILES[0]], names)
        for key, file in zip(layout.label_keys, layout.label_files, strict=True):
            self.info.features[key].names = contents[file].decode().split()
        parts = {"train": layout.train_files, "test": layout.test_files}
        return {
            split: self._generate_examples(split, b"".join(contents[name] for name in files))
            for split, files in parts.items()
        }

    def _generate_examples(
        self: Any, split: str, content: bytes
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        keys = self._cifar_info.label_keys
        rows = np.frombuffer(content, np.uint8).reshape(-1, len(keys) + _PIXELS)
        for i, row in enumerate(rows):
            image = np.ascontiguousarray(row[len(keys) :].reshape(3, 32, 32).transpose(1, 2, 0))
            labels = {key: int(label) for key, label in zip(keys, row, strict=False)}
            yield i, {"id": f"{split}_{i:05d}", "image": Image.fromarray(image), **labels}


with tfds.core.registered.skip_registration():

    class Cifar10(_Binary, _Stock10):
        """TFDS's own builder but for the reading of the archive."""

        name = "cifar10"
        FILES = ("cifar-10-binary.tar.gz",)

    class Cifar100(_Binary, _Stock100):
        """TFDS's own builder but for the reading of the archive."""

        name = "cifar100"
        FILES = ("cifar-100-binary.tar.gz",)
