"""What is told to the person at the keyboard: `UserError` and its kinds, the nearest of names."""

import difflib
import platform
import re
from collections.abc import Sequence


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


def nearest(word: str, known: Sequence[str]) -> str:
    """Returns ` — did you mean 'x'?` for a typo, or the list of what is known.

    >>> nearest("Grad-CAM++", ("grad_cam", "grad_cam_pp"))
    " — did you mean 'grad_cam_pp'?"
    """
    by_letters = {_letters(name): name for name in reversed(known)}
    close = difflib.get_close_matches(_letters(word), by_letters, n=1, cutoff=0.5)
    if close:
        return f" — did you mean {by_letters[close[0]]!r}?"
    return f"; known: {', '.join(known)}"


def _letters(name: str) -> str:
    """Returns a name without what people write in several ways: case, punctuation, ++ for pp."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "p"))
