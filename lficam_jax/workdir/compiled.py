"""Where jax keeps compiled programs: with the user, never in a folder that travels."""

import os
import platform
import stat
import zlib
from pathlib import Path

import jax


def keep_compiled() -> None:
    """Lets jax keep compiled programs in the user's own cache, so that a restart skips compiling.

    They are native code that jax loads unchecked, so a folder that comes from somebody else must
    hold none: they lie in `$XDG_CACHE_HOME/lficam_jax` (`~/.cache` without it), which its owner
    alone may enter. Whoever chose another place, by JAX_COMPILATION_CACHE_DIR, keeps it; where
    there is no such folder, or it is not the user's own, nothing is kept.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        place = _own_folder()
        if place is not None:
            jax.config.update("jax_compilation_cache_dir", str(place))


def _own_folder() -> Path | None:
    """Returns the folder of this kind of processor, for homes are shared by machines."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
        ours = base / "lficam_jax"
        base.mkdir(parents=True, exist_ok=True)
        for folder in (ours, ours / _processor()):
            folder.mkdir(mode=0o700, exist_ok=True)
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
                return None
            folder.chmod(0o700)
        return folder if os.access(folder, os.W_OK) else None
    except (OSError, RuntimeError):  # a home that cannot be written, or none at all
        return None


def _processor() -> str:
    """Names the instructions that this processor knows; programs for others may not run on it."""
    known = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        known += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:  # macOS
        pass
    return f"{platform.machine()}-{zlib.crc32(known.encode()):08x}"
