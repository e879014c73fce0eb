"""What is told to the person at the keyboard: `UserError` and its kinds, and who raises them."""

import difflib
import errno
import math
import numbers
import operator
import os
import platform
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any


class UserError(Exception):
    """Bad input: the message names the cause and the remedy, in one or a few lines.

    `main` prints it without a traceback and exits with `exit_code`. Library code raises it for
    whatever a user typed or supplied; every other exception is a bug of ours, with its traceback.
    """

    exit_code = 2


class DivergedError(UserError):
    """Training met a non-finite number; checkpoints written before it are intact."""

    exit_code = 3


class LostError(UserError):
    """Another process is gone or a step is stuck; the same command, given again, goes on."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


# What a machine or its owner says, and no program can help: of these a path is named in one line.
REFUSALS = {
    getattr(errno, name, -1) for name in (
        "EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ELOOP", "ENOTDIR", "EISDIR", "ENOSPC",
        "EDQUOT", "EFBIG", "EIO", "ENXIO", "ENODEV", "ESTALE", "EMFILE", "ENFILE", "ENOMEM",
        "ETIMEDOUT", "ENOTCONN", "EREMOTEIO", "EHOSTDOWN",
    )
}  # fmt: skip


def as_refusal(error: BaseException) -> UserError | None:
    """Returns what to say where the system refused a file; None if something else went wrong.

    >>> as_refusal(PermissionError(errno.EACCES, "Permission denied", "/data/a.txt"))
    UserError('the system refuses /data/a.txt: Permission denied')
    """
    if isinstance(error, FileNotFoundError) and _is_nowhere():
        return UserError("the current folder was removed; change to one that is there")
    if not isinstance(error, OSError) or error.errno not in REFUSALS or error.filename is None:
        return None
    return UserError(
        f"the system refuses {shortened(legible(os.fsdecode(error.filename)))}: {error.strerror}"
    )


def _is_nowhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


PLATFORMS = {"Linux": ("x86_64", "aarch64"), "Darwin": ("arm64",)}


def check_platform() -> None:
    """Tells at once where the libraries below have no packages.

    Raises:
      UserError: on anything but Linux (x86-64, ARM) and macOS (ARM).
    """
    system, machine = platform.system(), platform.machine()
    if machine not in PLATFORMS.get(system, ()):
        raise UserError(
            f"lficam_jax runs on Linux (x86-64, ARM) and macOS (ARM), not on {system} ({machine}), "
            "for which array_record has no package; on Windows, use WSL 2"
        )


MOST_PARTS, MOST_KNOWN = 5, 50  # names in a message


def nearest(word: str, known: Sequence[str]) -> str:
    """Returns ` — did you mean 'x'?` for a typo or a part of a name, or what is known.

    >>> nearest("Grad-CAM++", ("grad_cam", "grad_cam_pp"))
    " — did you mean 'grad_cam_pp'?"
    >>> nearest("cat", ("crate", "tiger cat", "Egyptian cat"))
    " — did you mean 'tiger cat' or 'Egyptian cat'?"
    """
    if parts := [name for name in known if word.lower() in name.lower().split()][:MOST_PARTS]:
        return f" — did you mean {' or '.join(map(repr, parts))}?"
    by_letters = {_letters(name): name for name in reversed(known)}
    close = difflib.get_close_matches(_letters(word), by_letters, n=1, cutoff=0.5)
    if close:
        return f" — did you mean {by_letters[close[0]]!r}?"
    more = f", … ({len(known):,} in all)" if len(known) > MOST_KNOWN else ""
    return f"; known: {', '.join(known[:MOST_KNOWN])}{more}"


def brief(given: Any, most: int = 100) -> str:
    """Writes what was given in one short line.

    >>> brief("a" * 300, 20)
    "'aaaaaaaaa…aaaaaaaa'"
    """
    return shortened(" ".join(repr(given).split()), most)


def shortened(text: str, most: int = 200) -> str:
    """Returns text, without its middle if it is long."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[1 - most // 2 :]}"


def first_line(error: Exception) -> str:
    """Returns the first line of what an error says: of a KeyError the text, not how it is written.

    >>> first_line(KeyError("no such key, but\\nthese"))
    'no such key, but'
    """
    text = str(error.args[0]) if error.args else ""
    return shortened((text.splitlines() or [type(error).__name__])[0])


def legible(text: object) -> str:
    r"""Returns text that any file and terminal takes: file names may hold any bytes.

    >>> print(legible("\udcff.png"))
    \udcff.png
    """
    return str(text).encode(errors="backslashreplace").decode()


def check_whole(what: str, given: Any, least: int = 1) -> int:
    """Returns a whole number of any type; raises a UserError for all else, or one below `least`."""
    try:
        found = least - 1 if isinstance(given, bool) else operator.index(given)
    except TypeError:
        found = least - 1
    if found < least:
        raise UserError(f"{what}={brief(given)} must be a whole number, {least} at least")
    return found


def is_number(given: Any) -> bool:
    """Tells a real, finite number from all else.

    >>> [is_number(given) for given in (1, 0.5, math.nan, True, "1")]
    [True, True, False, False, False]
    """
    real = isinstance(given, numbers.Real) and not isinstance(given, bool)
    return real and math.isfinite(given)


def check_flag(what: str, given: Any) -> None:
    """Raises a UserError for what is neither True nor False."""
    if not isinstance(given, bool):
        raise UserError(f"{what}={brief(given)} must be True or False")


def check_word(what: str, given: Any, known: Collection[str]) -> None:
    """Raises a UserError for what is none of the words; it names the nearest."""
    if not isinstance(given, str) or given not in known:
        raise UserError(f"{what} {brief(given)} is unknown{nearest(str(given), tuple(known))}")


def words(what: str, given: Any) -> tuple[str, ...]:
    """Returns a word, or each of several once, as a tuple; None is none of them.

    Raises:
      UserError: for all else.

    >>> words("method", "own"), words("method", ["own", "cam", "own"]), words("method", None)
    (('own',), ('own', 'cam'), ())
    """
    if given is None or isinstance(given, str):
        return () if given is None else (given,)
    try:
        found = tuple(given)
    except TypeError:
        found = (None,)
    if not all(isinstance(word, str) for word in found):
        raise UserError(f"{what} must be a name or a list of names, not {brief(given)}")
    return tuple(dict.fromkeys(map(str, found)))


def check_path(what: str, given: Any) -> Path:
    """Returns a path, with the home folder for `~`.

    Raises:
      UserError: for what is no path, or an empty one.
    """
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str):
        raise UserError(f"{what} must be a path, not {brief(given)}")
    if not text or "\0" in text:
        raise UserError(f"{what} is {brief(text)}, which names no file; give a path")
    try:
        path = Path(text).expanduser()
        path.lstat()
    except RuntimeError as error:
        raise UserError(f"{what} {brief(text)}: there is no such user; write it out") from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise UserError(f"{what} {brief(text)}: {error.strerror}") from error
    return path


def _letters(name: str) -> str:
    """Returns a name without what people write in several ways: case, punctuation, ++ for pp."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "p"))
