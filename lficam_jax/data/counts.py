"""How many pictures there are, told before a run starts."""

from collections.abc import Mapping

import numpy as np

from lficam_jax.data.datasets import SPLITS, Dataset
from lficam_jax.data.pipeline import Pipeline

LISTED = 10  # classes that are told one by one


def told(splits: Mapping[str, Pipeline], asked: int = 0) -> list[str]:
    """Returns lines: the pictures of each split and class, and what is to be said of the files.

    Args:
      splits: as they were opened.
      asked: the size of a training batch as the config says it; 0 = none is trained.
    """
    width, names = max(map(len, splits)), sorted(splits, key=SPLITS.index)
    lines = [f"{name:{width}}  {_count(splits[name])}" for name in names]
    if "train" in splits and splits["train"].batch_size < asked:
        train = splits["train"]
        taken = train.steps_per_epoch * train.batch_size
        lines.append(
            f"batches of {train.batch_size} instead of {asked}, so that an epoch takes {taken} of "
            f"the {train.examples} pictures to train on"
        )
    if next(iter(splits.values())).dataset.name == "synthetic":
        lines.append(
            "the pictures are synthetic: the run shows that everything works, and learns nothing; "
            "for real ones, set --config.data.dir or --config.data.folder"
        )
    lines += dict.fromkeys(note for split in splits.values() for note in split.notes)
    return [line.encode(errors="backslashreplace").decode() for line in lines]  # stray bytes, too


def _count(split: Pipeline) -> str:
    pictures = f"{split.examples:,} pictures"
    if split.labels is None:
        return pictures
    if split.dataset.labels == "number":
        numbers = np.asarray(split.labels, np.float64)
        span = f"from {numbers.min():g} to {numbers.max():g}, mean {numbers.mean():.4g}"
        return f"{pictures}: {split.classes[0]} {span}"
    if split.dataset.labels == "several":
        labels = np.asarray(split.labels)
        counts, unknown = (labels == 1).sum(axis=0), np.isnan(labels).sum(axis=0)
    else:
        counts = np.bincount(split.labels, minlength=len(split.classes))
        unknown = np.zeros_like(counts)
    by_class = dict(zip(split.classes, counts.tolist(), strict=True))
    if len(by_class) <= LISTED:
        each = zip(by_class.items(), unknown.tolist(), strict=True)
        by_name = ", ".join(
            f"{name}: {count}" + f" and {missing} unknown" * bool(missing)
            for (name, count), missing in each
        )
        return f"{pictures} ({by_name})"
    few, most = (by := sorted(by_class, key=by_class.__getitem__))[0], by[-1]
    span = f"from {by_class[few]} ({few}) to {by_class[most]} ({most})"
    what = "classes" if split.dataset.labels == "class" else "labels"
    rest = f"; {unknown.sum():,} of {labels.size:,} unknown" if unknown.any() else ""
    return f"{pictures} of {len(by_class)} {what}, {span} each{rest}"


def answers(dataset: Dataset) -> str:
    """Says what a network has to answer: `10 classes`, `3 labels`, or `a number (age)`."""
    if dataset.labels == "number":
        return f"a number ({', '.join(dataset.classes)})"
    return f"{dataset.num_classes} {'labels' if dataset.labels == 'several' else 'classes'}"
