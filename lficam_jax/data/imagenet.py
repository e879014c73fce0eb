"""What ImageNet's 1,000 classes are called."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files


@cache
def class_names() -> tuple[str, ...]:
    """Returns a name for each class, in the order of the labels.

    >>> class_names()[281:283]
    ('tabby', 'tiger cat')
    """
    return tuple(_table().values())


def in_words(ids: Sequence[str]) -> tuple[str, ...]:
    """Returns names for WordNet ids; what is none stays as it is.

    >>> in_words(["n02123045", "my cat"])
    ('tabby', 'my cat')
    """
    table = _table()
    return tuple(table.get(name, name) for name in ids)


@cache
def _table() -> dict[str, str]:
    """WordNet id -> name, in the order of the labels."""
    text = (files("lficam_jax.data") / "imagenet.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {wordnet_id: name for wordnet_id, name in rows}
