"""Writes a data set to disk, once, in the format that training reads; needs no TensorFlow.

lficam prepare cluttered_digits
lficam prepare fashion_mnist --from /usr/share/datasets/fashion-mnist
lficam prepare elpv                 # from the package elpv-dataset
"""

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

from lficam_jax import cli
from lficam_jax.errors import UserError, nearest

# Keys of data.builders.BUILDERS, and what TFDS prepares; here so that help and typos need no jax.
NAMES = (
    "cluttered_digits",
    "two_digits",
    "fashion_mnist",
    "cifar10",
    "cifar100",
    "svhn_cropped",
    "stl10",
    "elpv",
)
OTHERS = ("cats_vs_dogs", "imagenet2012", "imagenette", "oxford_iiit_pet")


def prepare(name: str, directory: Path, originals: Path | None = None) -> Any:
    """Prepares a data set, unless it is prepared already.

    TFDS writes to a folder `incomplete…` and renames it at the end, so an interrupted preparation
    is never taken for a finished one; run it again.

    Args:
      name: a key of `BUILDERS`.
      directory: where data sets are prepared.
      originals: holds the publishers' files; None downloads what is needed, or takes it from an
        installed package.

    Returns:
      The TFDS builder of the finished data set.

    Raises:
      UserError: for an unknown name, originals that are missing or differ, or a directory that
        cannot be written.
    """
    from lficam_jax.data.builders import BUILDERS, builder_class
    from lficam_jax.data.datasets import DATASETS
    from lficam_jax.data.sources import not_prepared

    if name in DATASETS and name not in BUILDERS:
        raise UserError(not_prepared(DATASETS[name].tfds_name, directory))
    if name not in BUILDERS:
        raise UserError(f"data set {name!r} is unknown{nearest(name, [*BUILDERS])}")

    try:
        directory.mkdir(parents=True, exist_ok=True)
        builder = builder_class(name)(data_dir=str(directory), file_format="array_record")
        if not Path(builder.data_path).exists():
            _write(builder, directory, originals)
    except OSError as error:
        raise UserError(f"cannot write to {directory}: {error.strerror or error}") from error
    return builder


def main(words: list[str], prog: str = "python -m lficam_jax.prepare") -> int:
    """Runs the command line; returns the exit code."""
    asked = _parser(prog).parse(words)
    if len(asked.name) != 1:
        raise UserError(f"give one NAME, not {len(asked.name)}; known: {', '.join(NAMES)}")
    (name,) = asked.name
    if name not in (*NAMES, *OTHERS):
        raise UserError(f"data set {name!r} is unknown{nearest(name, [*NAMES, *OTHERS])}")
    from lficam_jax.data.sources import data_directory

    builder = prepare(name, data_directory(asked.data_dir), asked.originals)
    splits = builder.info.splits
    sizes = ", ".join(f"{split} {splits[split].num_examples}" for split in splits)
    print(f"{name} is prepared in {builder.data_path}: {sizes} examples")
    return 0


def _write(builder: Any, directory: Path, originals: Path | None) -> None:
    import tensorflow_datasets as tfds

    from lficam_jax.data.builders import archives

    if names := getattr(builder, "FILES", ()):
        published = archives.registered(builder.name)
        wanted = [published[name] for name in names]
        if originals is None:
            builder.files = archives.download(wanted, directory / "downloads" / builder.name)
        else:
            builder.files = archives.find(wanted, originals, getattr(builder, "canonical", None))
    elif hasattr(builder, "bring"):
        builder.bring(originals)
    print(f"preparing {builder.name} …", file=sys.stderr, flush=True)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces unknown sizes
        builder.download_and_prepare()


def _parser(prog: str) -> cli.Parser:
    parser = cli.Parser(
        prog=prog,
        usage=f"{prog} NAME [FLAGS]",
        description="Writes a data set to disk, once, in the format that training reads.",
        epilog=f"names: {', '.join(NAMES)}\nOther data sets are prepared by TFDS itself; training "
        "tells the command. A folder of images needs no preparation.",
    )
    parser.add_argument("name", nargs="*", metavar="NAME", help="the data set; see the list below")
    parser.add_argument(
        "--data_dir",
        metavar="DIR",
        default="",
        help="where to write (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--from",
        dest="originals",
        metavar="DIR",
        type=Path,
        help="read the publishers' files from here instead of downloading them; says which "
        "files it wants, and checks their SHA-256",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
