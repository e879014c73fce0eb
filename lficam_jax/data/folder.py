"""A folder of images as a data set, with no preparation: `CLASS/files`, divided in three or not."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from lficam_jax.data.classes import places
from lficam_jax.data.datasets import IMAGENET_MEAN, IMAGENET_STD, SPLITS, Dataset
from lficam_jax.data.division import ALL, Row, divide, from_csv, to_csv
from lficam_jax.data.examples import Example, read_each
from lficam_jax.data.images import read_image
from lficam_jax.data.listing import subfolders, told, walk
from lficam_jax.data.notes import notes_of
from lficam_jax.data.objects import Objects, check_masks
from lficam_jax.data.transforms import cut_note
from lficam_jax.errors import UserError, check_path

# What people call the folder of a split, in any case of the letters.
NAMES = {
    "train": ("train", "training"), "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}  # fmt: skip


class Folder:
    """A folder of pictures: its splits, its classes and its files.

    Three layouts are known. `{train,validation,test}/CLASS/…` is taken as it is. Of a folder that
    lacks some of the three, these are taken from `train`; a folder `CLASS/…` is divided in three.
    A split file says it for every picture.

    Args:
      path: of the folder.
      split_file: '' or a CSV of path, class and split; `ALL`: nothing is divided, and a folder
        `CLASS/…` is all of each split.

    Raises:
      UserError: if it is no folder, or none that holds classes.
    """

    kind = "class"  # what a picture has

    def __init__(self, path: Path, split_file: str = ""):
        if not path.is_dir():
            raise UserError(f"data.folder={path} is not a directory")
        self.path = path
        self._all = split_file == ALL
        self._file = (
            check_path("data.split_file", split_file) if split_file and not self._all else None
        )
        self._top, self._passed = subfolders(path)
        self._parts = self._find_parts()
        self._nested: list[Path] = []
        self._masks: set[str] = set()

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted.

        Raises:
          UserError: for fewer than two.
        """
        if self._file:
            names = {name for rows in self._table.values() for _, name in rows}
        else:
            names = {p.name for p in self._class_folders("train")}
        if len(names) < 2:
            raise UserError(self._too_few(sorted(names)))
        return tuple(sorted(names))

    def class_names(self, split: str) -> list[str]:
        """Returns the classes that a split has, or a folder for."""
        if split in self._parts and not self._file:
            return [p.name for p in self._class_folders(split)]
        return sorted({name for _, name in self.rows(split)})

    def rows(self, split: str) -> list[Row]:
        """Returns the pictures of a split, sorted by class and path.

        Raises:
          UserError: if there is no such split, or the split file names files that are gone.
        """
        if self._file:
            return self._still_there(split)
        if split in self._parts and (split != "train" or self.whole or self._all):
            return self._list(self._class_folders(split))
        if self._all and not self._parts:
            return self._list(self._top)
        return self._divided[split]

    def labels(self, rows: Sequence[Row], classes: Sequence[str]) -> np.ndarray:
        """Returns the label of each of `rows`: the number of its class, int32."""
        number = {name: i for i, name in enumerate(classes)}
        return np.array([number[name] for _, name in rows], np.int32)

    def missing(self, rows: Sequence[Row], classes: Sequence[str]) -> list[str]:
        """Returns the classes that none of `rows` has."""
        found = {name for _, name in rows}
        return [name for name in classes if name not in found]

    def number(self) -> tuple[float, float]:
        """Returns mean and deviation of the numbers to train on."""
        return 0.0, 1.0

    def objects(self, rows: Sequence[Row]) -> Objects:
        """Returns where the objects of some of `rows` are."""
        return Objects(self.path, [path for path, _ in rows], self._masks)

    def place(self, split: str) -> str:
        """Returns what a message calls a split: its folder, if it has one."""
        return str(self._parts.get(split, f"{split} of {self.path}"))

    def why_empty(self, split: str) -> str:
        """Says why a split has no picture, and what to do about it."""
        if self._file:
            return f"{self._file} has no row of the split {split}"
        if split in self._parts and (split != "train" or self.whole):
            return f"{self._parts[split]} holds no pictures; each class needs a folder with some"
        count = {p: len(self._list([p])) for p in self._class_folders("train")}
        if empty := [path for path, pictures in count.items() if not pictures]:
            folders = told(empty, self.path)
            return f"{self.path}: no pictures in {folders}; add some, or remove the folder"
        return (
            f"{self.path} has too few pictures to take some to {split}: a class needs two to train "
            f"and test, three to validate also, and the largest has {max(count.values())}"
        )

    @property
    def whole(self) -> bool:
        """Whether the folder itself has the three splits."""
        return len(self._parts) == len(SPLITS)

    def table(self) -> str:
        """Returns, as CSV, the split of every picture; '' where the folder itself says it."""
        if self.whole and not self._file:
            return ""
        return to_csv({split: self.rows(split) for split in SPLITS})

    def notes(self) -> list[str]:
        """Says how the folder was understood, after its splits were opened."""
        lines = []
        if self._file:
            lines += self._about_file()
        elif self._all and not self._parts:
            lines.append(f"{self.path} is not the run's own folder, and not divided: all is taken")
        elif not self.whole and "_divided" in self.__dict__:
            lines.append(self._about_division())
        if self._nested:
            below = told(dict.fromkeys(self._nested), self.path)
            lines.append(f"pictures below a class folder count as that class's: {below}")
        if self._passed:
            passed = told(dict.fromkeys(self._passed), self.path)
            lines.append(f"passed over in {self.path}: {passed}")
        return lines

    @cached_property
    def _table(self) -> dict[str, list[Row]]:
        assert self._file is not None
        return {split: sorted(rows, key=_order) for split, rows in from_csv(self._file).items()}

    @cached_property
    def _everything(self) -> dict[str, None]:
        """Every picture, whatever its split."""
        tops = self._parts or {"": self.path}
        return {path: None for split in tops for path, _ in self._list(self._class_folders(split))}

    @cached_property
    def _divided(self) -> dict[str, list[Row]]:
        wanted = [split for split in SPLITS[1:] if split not in self._parts]
        rows = self._list(self._class_folders("train"))
        found = divide(self.path, rows, wanted)
        return {split: sorted(part, key=_order) for split, part in found.items()}

    def _find_parts(self) -> dict[str, Path]:
        parts: dict[str, Path] = {}
        for split, names in NAMES.items():
            named = [p for p in self._top if p.name.lower() in names]
            found = [p for p in named if subfolders(p)[0]]
            if len(found) > 1:
                both = " and ".join(p.name for p in found)
                raise UserError(f"{self.path} has {both}, which mean the same; keep one of them")
            if found:
                parts[split] = found[0]
        words = [word for names in NAMES.values() for word in names]
        if self._top and not parts and all(p.name.lower() in words for p in self._top):
            held = " and ".join(p.name for p in self._top)
            raise UserError(f"{self.path}: {held} must hold one folder of pictures per class")
        return parts

    def _class_folders(self, split: str) -> list[Path]:
        if not self._parts:
            return self._top
        if split not in self._parts:
            held = ", ".join(p.name for p in self._top)
            raise UserError(f"{self.path} has no folder {split}; it holds {held}")
        folders, passed = subfolders(self._parts[split])
        self._passed += passed
        return folders

    def _list(self, folders: Sequence[Path]) -> list[Row]:
        rows = []
        for folder in folders:
            below = walk(folder)
            self._passed += below.passed
            check_masks(below, self.path)
            self._masks |= {p.relative_to(self.path).as_posix() for p in below.masks}
            if nested := [p.parent for p in below.files if p.parent != folder]:
                self._nested.append(nested[0])
            rows += [(p.relative_to(self.path).as_posix(), folder.name) for p in below.files]
        return rows

    def _still_there(self, split: str) -> list[Row]:
        rows = self._table[split]
        gone = [self.path / path for path, _ in rows if path not in self._everything]
        if gone:
            raise UserError(
                f"{self._file} names pictures that are not in {self.path}: "
                f"{told(gone, self.path)}; put them back, or start in another --workdir"
            )
        return rows

    def _about_file(self) -> list[str]:
        listed = {path for rows in self._table.values() for path, _ in rows}
        new = [self.path / path for path in self._everything if path not in listed]
        lines = [f"{self._file} says which pictures of {self.path} are in which split"]
        if new:
            lines.append(
                f"left out, because they came later than {self._file}: {told(new, self.path)}; "
                "a run in another --workdir takes them in"
            )
        return lines

    def _about_division(self) -> str:
        counts = {split: len(rows) for split, rows in self._divided.items()}
        total, missing = sum(counts.values()), [s for s in SPLITS if s not in self._parts]
        if not self._parts:
            numbers = ", ".join(f"{n} {split}" for split, n in counts.items())
            return f"{self.path} is divided by the contents of its {total} pictures: {numbers}"
        taken = " and ".join(f"{counts[split]} to {split}" for split in missing)
        return (
            f"{self.path} has no {' and no '.join(missing)}: by their contents, {taken} of the "
            f"{total} pictures of train"
        )

    def _too_few(self, names: list[str]) -> str:
        if len(self._top) == 1 and not self._parts and subfolders(self._top[0])[0]:
            inner = self._top[0]
            return f"{self.path} holds only {inner.name}; say --config.data.folder={inner}?"
        where = self._parts.get("train", self.path)
        held = f"it holds {names[0]}" if names else "it holds none"
        return f"{where} needs one folder of pictures per class, two at least; {held}"


class FolderSource:
    """One split of a folder; `id` is the position among its sorted pictures.

    Args:
      folder: that holds it.
      split: train, validation or test.
      classes: that the labels count; (): the folder's own.
      dataset: says how the pictures are read.
      limit: take this many, spread evenly, for the pictures are sorted by class; 0: all.

    Raises:
      UserError: if the split is empty, or holds other classes.

    Attributes:
      classes: as above.
      labels: of all examples.
      noted: what is to be said of how pictures were read, of those that were.
      objects: where the objects are; None: nobody asks, and examples have no `mask`.
    """

    def __init__(
        self, folder: Folder, split: str, classes: tuple[str, ...], dataset: Dataset,
        limit: int = 0,
    ):  # fmt: skip
        self.folder, self.classes, self._dataset = folder, classes or folder.classes, dataset
        self.noted: dict[int, tuple[str, ...]] = {}
        rows, whose = folder.rows(split), "the run" if classes else "train"
        names = folder.class_names(split)
        where = folder.place(split)
        places(names, self.classes, where, whose)
        if not rows:
            raise UserError(folder.why_empty(split))
        count = min(limit or len(rows), len(rows))
        self._ids = np.arange(count) * len(rows) // count
        self._rows = [rows[i] for i in self._ids]
        self.objects = folder.objects(self._rows) or None
        self.labels = folder.labels(self._rows, self.classes)
        self.missing = folder.missing(rows, self.classes)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Example:
        path = self.folder.path / self._rows[i][0]
        image, notes = read_image(path, self._dataset.channels, self._dataset.background)
        if notes := notes + cut_note(image, self._dataset):
            self.noted[i] = notes
            notes_of(self.folder.path).tell(self.name(i), notes)
        example = {"image": image, "label": self.labels[i], "id": int(self._ids[i])}
        if self.objects:
            example["mask"] = self.objects.mask(self._rows[i][0], *image.shape[:2])
        return example

    @property
    def names(self) -> list[str]:
        """The files' paths below the folder."""
        return [path for path, _ in self._rows]

    def name(self, i: int) -> str:
        """Returns the file's path below the folder, as text that can be shown anywhere."""
        return self._rows[i][0].encode(errors="backslashreplace").decode()

    def read(self, start: int, stop: int) -> list[Example]:
        """Returns consecutive examples."""
        return read_each(self, start, stop)


def folder_dataset(folder: Folder) -> Dataset:
    """Describes a folder by its classes; its pictures are listed where numbers are learnt."""
    return Dataset(
        name="folder", tfds_name="", num_classes=len(folder.classes), classes=folder.classes,
        image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, splits={}, examples={},
        prepared_by="", labels=folder.kind, number=folder.number(),
    )  # fmt: skip


def _order(row: Row) -> tuple[str, list[str]]:
    return row[1], row[0].split("/")
