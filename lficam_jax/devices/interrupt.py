"""SIGTERM, SIGINT and SIGHUP ask the loop to save and leave; no step is torn down half-way."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

import jax

from lficam_jax.devices.distributed import agreed_to_stop


class Interrupted(BaseException):
    """Work was asked to stop, has saved, and continues when the same command is given again.

    Like KeyboardInterrupt no Exception: whatever reads a file takes those for damage.

    Args:
      signum: the signal.
      step: that was saved; None outside a training, where only what is whole is kept.
    """

    def __init__(self, signum: int, step: int | None = None) -> None:
        name = signal.Signals(signum).name
        saved = "stopped; what is done is kept" if step is None else f"saved step {step}"
        super().__init__(f"{name}: {saved}; the same command continues from there")
        self.exit_code = 128 + signum  # as a shell reports it: 143, 130, 129


class Interruption:
    """Inside the context, the first signal is remembered; a second SIGINT stops at once.

    With several processes jax listens for SIGTERM, since all must stop behind the same step,
    whichever of them was told; SIGINT and SIGHUP are handed on to it. Python lets the main thread
    alone listen: in any other, signals stay whoever's they are.
    """

    def __init__(self) -> None:
        self._signum: int | None = None
        self._shared = jax.distributed.is_initialized()

    def at(self, step: int) -> int | None:
        """Returns the signal because of which the run ends behind this step; asked once a step."""
        if self._shared:
            return signal.SIGTERM if agreed_to_stop(step) else None
        return self._signum

    def __enter__(self) -> "Interruption":
        # A handler of ours for SIGTERM would take the place of jax's.
        ours = [s for s in _heard() if s != signal.SIGTERM or not self._shared]
        self._before = {s: signal.signal(s, self._note) for s in ours}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self._signum == signal.SIGINT == signum:
            raise KeyboardInterrupt
        self._signum = signum
        if self._shared:
            os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Inside, a signal ends the work at once, by Interrupted: for work that writes whole files."""

    def stop(signum: int, frame: FrameType | None) -> None:
        if not _is_swallowed(frame):
            raise Interrupted(signum)
        threading.Timer(0.05, os.kill, (os.getpid(), signum)).start()  # comes again, elsewhere

    before = {s: signal.signal(s, stop) for s in _heard()}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _is_swallowed(frame: FrameType | None) -> bool:
    """Tells whether Python would only print what is raised here: in what collects garbage."""
    while frame is not None:
        if frame.f_code.co_name in ("__del__", "_xla_gc_callback"):
            return True
        frame = frame.f_back
    return False


def _heard() -> list[signal.Signals]:
    """Returns the signals that this thread can listen for and should."""
    if threading.current_thread() is not threading.main_thread():
        return []
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as nohup has it
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]
