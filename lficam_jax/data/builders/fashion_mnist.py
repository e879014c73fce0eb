"""Fashion-MNIST from its four original files: TFDS's data set, written without TensorFlow."""

import gzip
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

_MODIFIED = {"train": 1504176606, "t10k-": 1504176627}  # when the publishers gzipped the files

_Stock: Any = tfds.image_classification.FashionMNIST  # looked up, and so registered, beforehand
with tfds.core.registered.skip_registration():

    class Builder(_Stock):
        """TFDS's own builder but for the reading of the archives."""

        name = "fashion_mnist"
        FILES = tuple(
            f"{part}-{kind}-ubyte.gz"
            for part in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        )
        files: Mapping[str, Path] = {}  # FILES -> where they lie; set by whoever prepares

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
            return {
                "train": self._generate_examples("train"),
                "test": self._generate_examples("t10k"),
            }

        def _generate_examples(self, part: str) -> Iterator[tuple[int, dict[str, Any]]]:
            images, labels = (
                np.frombuffer(gzip.decompress(self.files[name].read_bytes()), np.uint8)
                for name in (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz")
            )
            images = images[16:].reshape(-1, 28, 28)  # behind a header of four integers
            for i, (image, label) in enumerate(zip(images, labels[8:], strict=True)):
                yield i, {"image": Image.fromarray(image), "label": int(label)}

        @staticmethod
        def canonical(name: str, content: bytes) -> bytes:
            """Restores the gzip header that Debian's package dataset-fashion-mnist stripped.

            Its files hold the publishers' compressed stream without file name and time; with both
            put back they are the published files, byte by byte.
            """
            if content[:4] != b"\x1f\x8b\x08\x00":  # gzip, deflate, no optional fields
                return content
            time = struct.pack("<I", _MODIFIED[name[:5]])
            file_name = name.removesuffix(".gz").encode() + b"\0"
            return b"\x1f\x8b\x08\x08" + time + content[8:10] + file_name + content[10:]
