"""The publishers' archives: where they are, whether they are the right ones, what is inside."""

import hashlib
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lficam_jax.errors import UserError

CHUNK = 1 << 20  # bytes

Canonical = Callable[[str, bytes], bytes]  # file name, content -> content as it was published


@dataclass(frozen=True)
class Archive:
    """A file as its publishers offer it.

    Attributes:
      name: file name.
      url: where it is published.
      size: bytes; 0: not known.
      sha256: of the content, hexadecimal; or how it begins, where no more is published.
    """

    name: str
    url: str
    size: int
    sha256: str


def registered(tfds_name: str) -> dict[str, Archive]:
    """Returns file name -> archive, from the registry inside tensorflow_datasets."""
    import tensorflow_datasets as tfds

    infos = tfds.builder_cls(tfds_name).url_infos
    named = {url.rsplit("/", 1)[-1]: (url, info) for url, info in infos.items()}
    return {n: Archive(n, url, int(info.size), info.checksum) for n, (url, info) in named.items()}


def find(wanted: Sequence[Archive], folder: Path, canonical: Canonical | None) -> dict[str, Path]:
    """Finds and verifies the wanted archives in a folder that the user gave.

    Args:
      wanted: which archives.
      folder: where they lie, under their own names.
      canonical: undoes what a redistributor is known to have changed, before the check.

    Raises:
      UserError: naming what is missing or differs, and everything that is wanted.
    """
    problems = []
    for archive in wanted:
        path = folder / archive.name
        if not path.is_file():
            problems.append(f"{archive.name} is missing")
        elif not _verified(archive, path, canonical):
            problems.append(f"{archive.name} differs from the published file (SHA-256)")
    if problems:
        listing = "\n".join(f"  {a.name}  {a.size} bytes  sha256 {a.sha256}" for a in wanted)
        origin = "\n".join(f"  {a.url}" for a in wanted)
        raise UserError(f"{folder}: {'; '.join(problems)}. Wanted:\n{listing}\nfrom\n{origin}")
    return {archive.name: folder / archive.name for archive in wanted}


def download(wanted: Sequence[Archive], folder: Path) -> dict[str, Path]:
    """Downloads and verifies the wanted archives, unless they are there already.

    Raises:
      UserError: if the network or the publisher fails, or a file is not the expected one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for archive in wanted:
        path = folder / archive.name
        if path.is_file() and _verified(archive, path, None):
            continue
        partial = path.with_name(path.name + ".part")
        _fetch(archive, partial)
        if not _verified(archive, partial, None):
            partial.unlink()
            raise UserError(
                f"what {archive.url} sent is not the published file (SHA-256 differs); "
                f"get it elsewhere and give it with --from"
            )
        partial.replace(path)
    return {archive.name: folder / archive.name for archive in wanted}


def read_tar(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Returns base name -> content of some members of a .tar.gz, in one pass."""
    contents: dict[str, bytes] = {}
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            name = member.name.rsplit("/", 1)[-1]
            file = archive.extractfile(member) if name in names else None
            if file is not None:
                contents[name] = file.read()
            if len(contents) == len(names):
                break
    return contents


def _fetch(archive: Archive, path: Path) -> None:
    received = 0
    try:
        with urllib.request.urlopen(archive.url, timeout=60) as answer, path.open("wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                received += len(chunk)
                _show(f"{archive.name}: {received >> 20} of {archive.size >> 20 or '?'} MiB")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise UserError(
            f"cannot download {archive.url} ({error}); get it elsewhere and give it with --from"
        ) from error
    finally:
        _show("", end=True)


def _show(text: str, *, end: bool = False) -> None:
    """Rewrites one line on a terminal; says nothing in a log."""
    if sys.stderr.isatty():
        sys.stderr.write("\n" if end else f"\r{text}")
        sys.stderr.flush()


def _verified(archive: Archive, path: Path, canonical: Canonical | None) -> bool:
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest().startswith(archive.sha256):
            return True
    if canonical is None:
        return False
    content = canonical(archive.name, path.read_bytes())
    return hashlib.sha256(content).hexdigest() == archive.sha256
