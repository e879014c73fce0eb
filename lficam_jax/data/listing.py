"""Picture files: what counts as one, and finding them below folders."""

import errno
import glob
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lficam_jax.data.files import kind
from lficam_jax.errors import UserError, brief, check_path, legible

SUFFIXES = (
    ".apng", ".avif", ".bmp", ".dcm", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpeg", ".jpg",
    ".npy", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
MASK = ".mask.png"  # ends the name of a mask, which is no picture
JUNK = ("__MACOSX",)  # what archives of macOS bring along
SHOWN = 5  # paths in a message


@dataclass
class Listing:
    """What lies below a folder.

    Attributes:
      files: the pictures, sorted.
      masks: of the pictures' objects, sorted.
      passed: hidden folders and files, `__MACOSX`, folders named like pictures, and links that lead
        nowhere: not looked at.
    """

    files: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    passed: list[Path] = field(default_factory=list)


def walk(folder: Path) -> Listing:
    """Lists the pictures below a folder, by their suffix; links to folders are followed.

    A link that leads back to a folder above it ends there.

    Raises:
      UserError: if a folder cannot be read.
    """
    found = Listing()
    above = {*folder.absolute().parents, *Path(os.path.realpath(folder)).parents}
    _walk(folder, frozenset(map(_identity, above)), found)
    found.files.sort()
    found.masks.sort()
    return found


def subfolders(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the folders in a folder, sorted by name, and what `walk` would pass over.

    Raises:
      UserError: if it is not there, or cannot be read.
    """
    found = _children(folder)
    passed = [path for path, is_folder in found if _is_passed(path, is_folder)]
    return [p for p, is_folder in found if is_folder and p not in passed], passed


def told(paths: Iterable[Path], folder: Path) -> str:
    """Names a few paths, those below a folder relative to it.

    >>> told([Path("photos/.git")], Path("photos"))
    '.git'
    """
    names = [
        (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
        for path in paths
    ]
    return ", ".join(names[:SHOWN]) + (f", … ({len(names)} in all)" if len(names) > SHOWN else "")


def find_images(
    patterns: Iterable[str | Path], lost: list[tuple[str, str]] | None = None
) -> list[Path]:
    """Finds image files.

    Args:
      patterns: each a file, a directory (searched below, by suffix) or a glob.
      lost: takes each pattern that finds nothing, with the reason.

    Returns:
      The files, in the order of the patterns and sorted within each, without repetitions. A file
      that was named is returned whatever its suffix: reading it tells what it is. What a directory
      hides is passed over, and named on standard error.

    Raises:
      UserError: for an empty name, or, without `lost`, a pattern that finds nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if not str(pattern):
            raise UserError("an empty name among the images; is a variable of the shell not set?")
        try:
            found |= dict.fromkeys(_matches(pattern))
        except UserError as error:
            if lost is None:
                raise
            lost.append((legible(pattern), legible(error)))
    return list(found)


def _matches(pattern: str | Path) -> list[Path]:
    path = check_path("an image", pattern)
    if os.path.isfile(path):  # unlike Path's, never an error, however long the name
        return [path]
    if os.path.isdir(path):
        below = walk(path)
        matches = below.files
        if below.passed:
            print(f"passed over in {path}: {told(below.passed, path)}", file=sys.stderr)
    elif os.path.exists(path):
        raise UserError(f"{str(pattern)!r} is {kind(path)}, not a file; give files of pictures")
    else:
        matches = sorted(Path(p) for p in glob.glob(str(path), recursive=True))
        special = [p for p in matches if os.path.exists(p) and kind(p) not in ("", "a folder")]
        if special:
            print(f"passed over: {', '.join(map(str, special[:SHOWN]))}", file=sys.stderr)
        matches = [p for p in matches if os.path.isfile(p)]
    if not matches:
        raise UserError(
            f"no image found at {brief(str(pattern))}; give files, a directory or a glob"
        )
    return matches


def _walk(folder: Path, above: frozenset[tuple[int, int]], found: Listing) -> None:
    here = _identity(folder)
    if here in above:
        return
    for path, is_folder in _children(folder):
        if _is_passed(path, is_folder):
            found.passed.append(path)
        elif is_folder:
            _walk(path, above | {here}, found)
        elif path.name.endswith(MASK):
            found.masks.append(path)
        elif path.suffix.lower() in SUFFIXES:
            # A pipe or a device is no file; what is gone, reading it will tell.
            (found.files if path.is_file() or not path.exists() else found.passed).append(path)


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:  # it went while its parent was read
        raise UserError(f"cannot read the folder {folder}: {error.strerror}") from error
    return status.st_dev, status.st_ino


def _children(folder: Path) -> list[tuple[Path, bool]]:
    """Returns what is in a folder, sorted, and whether it is a folder or a link to one."""
    try:
        with os.scandir(folder) as entries:
            return sorted((Path(entry.path), _is_folder(entry)) for entry in entries)
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return False
        raise  # what cannot be looked at must not be left out without a word


def _is_passed(path: Path, is_folder: bool) -> bool:
    """Tells what is no picture and no folder of pictures, though it may look like one."""
    picture, hidden = path.suffix.lower() in SUFFIXES, path.name.startswith(".")
    if is_folder:
        return picture or hidden or path.name in JUNK
    # a link that leads nowhere may have led to a class
    return picture and hidden or (not picture and path.is_symlink() and not path.exists())
