"""Exceptions whose message is meant for the person at the keyboard: `UserError` and its kinds."""

import platform


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
