"""A folder of images as a data set: `{train,validation,test}/CLASS/files`, with no preparation."""

from pathlib import Path

from lficam_jax.config import nearest
from lficam_jax.data.datasets import IMAGENET_MEAN, IMAGENET_STD, SPLITS, Dataset
from lficam_jax.data.images import is_image, read_image
from lficam_jax.data.sources import Example, places
from lficam_jax.errors import UserError


class FolderSource:
    """One split of a folder; `id` is the position in the sorted listing."""

    def __init__(self, folder: Path, split: str, classes: tuple[str, ...] = (), channels: int = 3):
        names = tuple(_folders(folder / split)) if classes else class_names(folder)
        self.classes, self._channels = classes or names, channels
        labels = places(names, self.classes, str(folder / split))
        self._files = [
            (path, label)
            for label, name in zip(labels, names, strict=True)
            for path in _images(folder / split / name)
        ]
        if not self._files:
            raise UserError(f"{folder / split} holds no images; put them in {split}/CLASS/")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: int) -> Example:
        path, label = self._files[i]
        return {"image": read_image(path, self._channels), "label": label, "id": i}

    def read(self, start: int, stop: int) -> list[Example]:
        """Returns consecutive examples."""
        return [self[i] for i in range(start, min(stop, len(self)))]


def folder_dataset(folder: Path) -> Dataset:
    """Describes a folder from its listing.

    Raises:
      UserError: if a split is missing, or has a class that `train` has not.
    """
    if not folder.is_dir():
        raise UserError(f"data.folder={folder} is not a directory")
    missing = [split for split in SPLITS if not (folder / split).is_dir()]
    if missing:
        held = ", ".join(sorted(p.name for p in folder.iterdir() if p.is_dir())) or "no folder"
        raise UserError(
            f"{folder} needs the folders train, validation and test, each with one folder per "
            f"class; missing: {', '.join(missing)}; it holds: {held}"
        )
    classes = class_names(folder)
    for split in SPLITS[1:]:
        for name in _folders(folder / split):
            if name not in classes:
                raise UserError(
                    f"{folder / split / name}: no such class in train{nearest(name, classes)}"
                )
    counts = {s: sum(len(_images(folder / s / name)) for name in classes) for s in SPLITS}
    return Dataset(
        name="folder",
        tfds_name="",
        num_classes=len(classes),
        classes=classes,
        image_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        splits={split: split for split in SPLITS},
        examples=counts,
        prepared_by="",
    )


def local_path(text: str) -> Path:
    """Returns the folder that `data.folder` names.

    Raises:
      UserError: for a bucket: listing and reading it file by file would take for ever.
    """
    if "://" in text:
        raise UserError(
            f"data.folder={text} must be a local path; mount the bucket and name the mount"
        )
    return Path(text).expanduser()


def class_names(folder: Path) -> tuple[str, ...]:
    """Returns the class folders of `train`, sorted; their order numbers the labels."""
    names = tuple(_folders(folder / "train"))
    if len(names) < 2:
        raise UserError(f"{folder / 'train'} needs one folder of images per class, two at least")
    return names


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a directory")
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_image(path)) if folder.is_dir() else []
