"""SIGTERM and SIGINT ask the loop to save and leave; no step is torn down half-way."""

import signal
from types import FrameType, TracebackType


class Interrupted(Exception):
    """The run was asked to stop, has saved, and continues when the same command is given again."""

    def __init__(self, signum: int, step: int) -> None:
        name = signal.Signals(signum).name
        super().__init__(f"{name}: saved step {step}; the same command continues from there")
        self.exit_code = 128 + signum  # as a shell reports it: 143 for SIGTERM, 130 for SIGINT


class Interruption:
    """Inside the context, the first signal is remembered; a second SIGINT stops at once."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def __enter__(self) -> "Interruption":
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum == signal.SIGINT == signum:
            raise KeyboardInterrupt
        self.signum = signum
