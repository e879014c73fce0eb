"""What went wrong with files: a damaged one, which may be passed over, or one that is refused."""

import errno
import os
import re
from pathlib import Path

from lficam_jax.data.files import plain_file

# What a part that is gone, or something else in its place, makes the system say.
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL)
WORDS = {
    os.strerror(code) for code in errno.errorcode if code not in (*ABSENT, errno.ERANGE, errno.EDOM)
}
# How tensorstore and gRPC say it; a checksum or a parser says DATA_LOSS or INVALID_ARGUMENT.
CODES = re.compile(
    r"PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE|DEADLINE_EXCEEDED|UNAUTHENTICATED|OS error "
)
NUMBER = re.compile(r"OS error (\d+)")


def refused(error: BaseException, folder: Path) -> str:
    """Says in one line what the system refused while a folder was read; '' if it refused nothing.

    Args:
      error: that reading raised: a library may have put its own words around the system's.
      folder: that was read; each of its files is tried.
    """
    seen: list[BaseException] = []
    pending: BaseException | None = error
    while pending is not None and pending not in seen:
        seen.append(pending)
        if isinstance(pending, MemoryError):
            return "not enough memory"
        if isinstance(pending, OSError) and pending.errno not in (None, *ABSENT):
            return f"{pending.filename or folder}: {pending.strerror or pending}"
        if words := _system_said(" ".join(str(pending).split())):
            return words
        pending = pending.__cause__ or pending.__context__
    return _unreadable(folder)


def _system_said(text: str) -> str:
    numbers = {int(number) for number in NUMBER.findall(text)}
    for word in sorted(WORDS, key=len, reverse=True):  # one may begin another
        if word in text:
            return word
    if numbers and numbers <= {*ABSENT}:
        return ""
    found = CODES.search(text)
    return text[found.start() :][:120] if found else ""


def _unreadable(folder: Path) -> str:
    """Tries every file and folder below; returns what the system says of the first it refuses."""

    def stop(error: OSError) -> None:
        raise error

    try:
        for here, _, names in os.walk(folder, onerror=stop):
            for name in names:
                with plain_file(Path(here, name)).open("rb") as file:
                    while file.read(1 << 20):
                        pass
    except OSError as error:
        if error.errno not in ABSENT:
            return f"{error.filename or folder}: {error.strerror or error}"
    return ""


def cause(words: str) -> str:
    """Says what a failed save most likely means, and what helps."""
    if os.strerror(errno.EMFILE) not in words:
        return "is the disk full or read-only?"
    if "' -> '" not in words:
        return "too many files are open; allow more (ulimit -n 100000)."
    # What gcsfuse answers to a rename, by which orbax finishes every folder.
    return (
        "its file system does not rename folders; is it a bucket mounted by gcsfuse? Mount it with "
        "--rename-dir-limit=200000, or say --workdir=gs://BUCKET/RUN."
    )


def in_a_line(error: Exception) -> str:
    """Returns the beginning and the end of what went wrong; between them is a storage's spec."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:60]} … {text[-90:]}"
