"""Exceptions whose message is meant for the person at the keyboard: `UserError` and its kinds."""


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
