"""Workdirs in a bucket: a local copy that the bucket follows, so that all else knows plain folders.

Any store that fsspec knows will do: gs:// with `pip install '.[gcs]'` from the repository, s3://
with s3fs, …. The bucket is the truth: a fresh copy is made of it at the start, and what changes
goes back every half minute and at the end, after SIGTERM too. A machine that vanishes costs the
last half minute. A checkpoint of which only a part arrived fails its checksums, and the one before
it is taken.
"""

import contextlib
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from lficam_jax.data.inside import inside
from lficam_jax.errors import UserError
from lficam_jax.workdir.lease import Lease

EVERY = 30.0  # seconds between two uploads
UNFINISHED = "orbax-checkpoint-tmp"  # in the name of a step that is being written


def is_remote(path: str | Path) -> bool:
    """Tells a bucket's address from a folder.

    >>> is_remote("gs://bucket/run"), is_remote("runs/a")
    (True, False)
    """
    return "://" in str(path)


@contextlib.contextmanager
def mirrored(
    workdir: str | None, every: float = EVERY, *, alone: bool = False
) -> Iterator[str | None]:
    """Gives the folder to work in: `workdir` itself, or a local copy that the bucket follows.

    Args:
      workdir: a folder, or the address of one in a bucket; None for none.
      every: seconds between two uploads.
      alone: no other process may do so at the same time, for a run is trained there.

    Raises:
      UserError: if the store is unknown, its package is not installed, or it cannot be reached; or
        if another process works there.
    """
    if workdir is None or not is_remote(workdir):
        yield workdir
        return
    with tempfile.TemporaryDirectory(prefix="lficam_jax-") as local:
        if jax.process_index() != 0:  # the others neither read nor write the run's folder
            yield local
            return
        mirror = Mirror(workdir, Path(local))
        with mirror.lease(every) if alone else contextlib.nullcontext():
            mirror.pull()
            print(f"working in {local}, which {workdir} follows", flush=True)
            over = threading.Event()
            thread = threading.Thread(target=mirror.follow, args=(over, every), daemon=True)
            thread.start()
            try:
                yield local
            finally:
                over.set()
                thread.join()
                mirror.push()


class Mirror:
    """A folder in a bucket and its local copy.

    Args:
      url: of the folder in the bucket.
      local: an empty folder.
    """

    def __init__(self, url: str, local: Path) -> None:
        self._fs, self._root = _open(url)
        self._url, self._local = url, local
        self._seen: dict[str, tuple[int, int]] = {}  # what the bucket holds: time and size here
        self._lease: Lease | None = None

    @contextlib.contextmanager
    def lease(self, every: float) -> Iterator[None]:
        """Keeps other processes out of the bucket's folder; `every`: seconds between two beats."""
        self._lease = Lease(self._fs, self._root, self._url, every)
        with contextlib.ExitStack() as stack:
            with _teaching(self._url):
                stack.enter_context(self._lease)
            yield

    def pull(self) -> None:
        """Copies everything from the bucket."""
        with _teaching(self._url):
            if not self._fs.exists(self._root):
                return
            for path, target in self._wanted():
                target.parent.mkdir(parents=True, exist_ok=True)
                self._fs.get_file(path, str(target))
        self._seen = self._here()

    def _wanted(self) -> list[tuple[str, Path]]:
        """Returns objects and their places here, once all of their names are known to be good."""
        found = []
        for path in self._fs.find(self._root):
            name = path.removeprefix(f"{self._root}/")
            if path == self._root or name.endswith("/"):
                continue  # consoles of buckets make such objects to show a folder
            target = inside(self._local, name, self._url)
            if not _hidden(name):
                found.append((path, target))
        return found

    def push(self) -> None:
        """Copies what has changed to the bucket, and removes checkpoints that are gone here."""
        here = self._here()
        with _teaching(self._url):
            if self._lease is not None:
                self._lease.check()
            for name, state in here.items():
                if self._seen.get(name) != state:
                    target = f"{self._root}/{name}"
                    self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                    with contextlib.suppress(FileNotFoundError):  # removed since we looked
                        self._fs.put_file(str(self._local / name), target)
                    self._seen[name] = state
            for name in [n for n in self._seen if n not in here]:
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(f"{self._root}/{name}")
                del self._seen[name]

    def follow(self, over: threading.Event, every: float) -> None:
        """Pushes until `over`; a store that cannot be reached for a while is tried again."""
        while not over.wait(every):
            try:
                self.push()
            except UserError as error:
                print(f"warning: {error}; trying again", file=sys.stderr, flush=True)

    def _here(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in sorted(self._local.rglob("*")):
            name = path.relative_to(self._local)
            if _hidden(name.as_posix()) or UNFINISHED in str(name):
                continue
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                if path.is_file():
                    about = path.stat()
                    found[name.as_posix()] = (about.st_mtime_ns, about.st_size)
        return found


def _hidden(name: str) -> bool:
    """Tells what stays where it is: locks, half-written files, an older version's programs."""
    return any(part.startswith(".") for part in name.split("/"))


@contextlib.contextmanager
def fetched(path: str) -> Iterator[str]:
    """Gives a folder to read from: `path` itself, or a copy of what a bucket holds there."""
    if not is_remote(path):
        yield path
        return
    local = Path(tempfile.mkdtemp(prefix="lficam_jax-"))
    try:
        Mirror(path, local).pull()
        if not any(local.iterdir()):
            raise UserError(f"{path} holds nothing; is the address right?")
        yield str(local)
    finally:
        shutil.rmtree(local, ignore_errors=True)


def _open(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        fs, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        gcs = "pip install '.[gcs]' from the repository"
        extra = gcs if url.startswith("gs://") else str(error)
        raise UserError(f"{url} needs a package that is not installed: {extra}") from error
    except ValueError as error:
        raise UserError(f"{url}: {error}; use a folder, or gs://BUCKET/FOLDER") from error
    return fs, root.rstrip("/")


@contextlib.contextmanager
def _teaching(url: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each store has exceptions of its own
        text = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot reach {url} ({text[:200]}); may you write there?") from error
