"""Names that somebody else chose, and the folder that they must not leave."""

from pathlib import Path

from lficam_jax.errors import UserError


def inside(folder: Path, name: str, whose: str) -> Path:
    """Joins a name that came with foreign data to the folder in which it belongs.

    Args:
      folder: that the name is below.
      name: with / between its parts.
      whose: what brought the name, for the message.

    Raises:
      UserError: for a name that is empty, absolute, holds a NUL, or has an empty part, `.` or `..`.

    >>> inside(Path("runs"), "a/config.json", "the bucket").as_posix()
    'runs/a/config.json'
    """
    if "\0" in name or {"", ".", ".."} & {*name.split("/")}:
        raise UserError(
            f"{whose} holds {name!r}, which is no name of a file inside a folder: nothing of it "
            "is taken; remove it, if you trust the rest"
        )
    return folder / name
