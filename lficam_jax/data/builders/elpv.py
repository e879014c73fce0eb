"""Photographs of solar cells, glowing under current: which of them are defective.

Buerhop-Lutz et al. (2018) and Deitsch et al. (2019, 2021) cut 2,624 cells out of
electroluminescence photographs of 44 modules and had experts judge each: a probability of a defect
of 0, 1/3, 2/3 or 1. A cell counts as `defective` from 0.5 on. The pictures are licensed for
non-commercial use, so they come from the package of the authors, `elpv-dataset`, or from a folder.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from lficam_jax.data.images import decode
from lficam_jax.errors import UserError

SIZE = 300  # pixels per side
CLASSES = ("functional", "defective")
TYPES = ("mono", "poly")  # of the module: mono- or polycrystalline
THRESHOLD = 0.5  # probability from which a cell counts as defective
SHARES = {"train": 0.65, "validation": 0.1, "test": 0.25}
# SHA-256 of the published pixels and labels, whatever the files are called and however packed.
PUBLISHED = "8b12057abc8371d9f52a6944e00785b874836894a1cf292dcc7d8ec007db359b"
_CITATION = """\
@article{deitsch2019automatic,
  author = {Deitsch, Sergiu and Christlein, Vincent and Berger, Stephan and Buerhop-Lutz, Claudia
    and Maier, Andreas and Gallwitz, Florian and Riess, Christian},
  title = {Automatic classification of defective photovoltaic module cells in electroluminescence
    images},
  journal = {Solar Energy},
  volume = {185},
  pages = {455--468},
  year = {2019},
  doi = {10.1016/j.solener.2019.02.067},
}
"""


@dataclass(frozen=True)
class Cell:
    """One line of labels.csv, and its picture.

    Attributes:
      number: of the file: 17 for cell0017.png.
      path: of the picture.
      probability: of a defect, 0..1.
      kind: of the module, one of `TYPES`.
      digest: SHA-256 of the pixels, hexadecimal.
    """

    number: int
    path: Path
    probability: float
    kind: str
    digest: str

    @property
    def split(self) -> str:
        """The split: the first 32 bits of the digest are a number that is as good as random."""
        place = int(self.digest[:8], 16) / 2**32
        if place < SHARES["train"]:
            return "train"
        return "validation" if place < SHARES["train"] + SHARES["validation"] else "test"


with tfds.core.registered.skip_registration():

    class Builder(tfds.core.GeneratorBasedBuilder):
        """Makes the TFDS data set from the authors' files."""

        name = "elpv"
        VERSION = tfds.core.Version("1.0.0")
        RELEASE_NOTES = {"1.0.0": "First release."}
        cells: Sequence[Cell] = ()

        def bring(self, originals: Path | None) -> None:
            """Reads the labels and checks the pictures, before anything is written.

            Args:
              originals: holds labels.csv and images/; None: the installed package does.

            Raises:
              UserError: if they are not there, or are not the published ones.
            """
            folder = originals or _installed()
            self.cells = read_cells(folder)
            if (found := fingerprint(self.cells)) != PUBLISHED:
                raise UserError(
                    f"{folder} is not the published elpv: its {len(self.cells)} pictures and "
                    f"labels have the SHA-256 {found[:12]}…, not {PUBLISHED[:12]}…; take those of "
                    "the package: pip install elpv-dataset"
                )

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                "image": tfds.features.Image(shape=(SIZE, SIZE, 1)),
                "label": tfds.features.ClassLabel(names=CLASSES),
                "type": tfds.features.ClassLabel(names=TYPES),
                "probability": tfds.features.Scalar(np.float32),
                "id": tfds.features.Scalar(np.int32),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{__doc__}\nSplits go by a hash of the pixels; `id` is the number in "
                "the file's name.",
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
                homepage="https://github.com/zae-bayern/elpv-dataset",
                citation=_CITATION,
                license="CC BY-NC-SA 4.0",
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
            return {split: self._generate_examples(split) for split in SHARES}

        def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
            for cell in self.cells:
                if cell.split == split:
                    yield (
                        cell.number,
                        {
                            "image": cell.path.read_bytes(),
                            "label": CLASSES[cell.probability >= THRESHOLD],
                            "type": cell.kind,
                            "probability": cell.probability,
                            "id": cell.number,
                        },
                    )


def read_cells(folder: Path) -> list[Cell]:
    """Reads labels.csv, whose lines are `images/cell0001.png  1.0  mono`, and every picture.

    Raises:
      UserError: for a file that is missing or damaged, naming it and what to bring.
    """
    table = folder / "labels.csv"
    if not table.is_file():
        raise UserError(
            f"{folder} holds no labels.csv; elpv needs labels.csv and images/, as in the package: "
            "pip install elpv-dataset, and leave --from out"
        )
    lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    return [_cell(folder, i, line) for i, line in enumerate(lines, 1) if line.strip()]


def fingerprint(cells: Sequence[Cell]) -> str:
    """Returns the SHA-256 of all pixels and labels, in the order of the numbers."""
    lines = sorted(f"{c.number:04} {c.digest} {c.probability:.2f} {c.kind}\n" for c in cells)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _cell(folder: Path, number: int, line: str) -> Cell:
    try:
        name, probability, kind = line.split()
        told = Cell(int(name[-8:-4]), folder / name, float(probability), kind, "")
    except ValueError as error:
        raise UserError(
            f"{folder / 'labels.csv'}, line {number}: {line.strip()[:60]!r} is not like "
            "'images/cell0001.png 1.0 mono'"
        ) from error
    try:
        content = told.path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {told.path}: {error.strerror}; elpv needs every picture that labels.csv "
            "names"
        ) from error
    pixels = decode(content, channels=1, name=str(told.path)).pixels
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return Cell(told.number, told.path, told.probability, told.kind, digest)


def _installed() -> Path:
    """Returns the folder inside the authors' package."""
    package = find_spec("elpv_dataset")
    if package is None or not package.submodule_search_locations:
        raise UserError(
            "elpv takes its pictures from a package: pip install elpv-dataset (90 MB). Or bring "
            "that package's folder data/, which holds labels.csv and images/, and give --from DIR"
        )
    return Path(package.submodule_search_locations[0]) / "data"
