"""A video in, the same video with maps over its frames out: `lficam_jax.explain_video`."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from lficam_jax.data.files import plain_file
from lficam_jax.errors import UserError, brief, check_path, check_whole
from lficam_jax.explaining.explanation import by_image
from lficam_jax.explaining.explanations import Explanations

AT_ONCE = 16  # frames in memory
Frame = UInt8[np.ndarray, "y x 3"]


def explain_video(
    network: Any, path: str | Path, *, out: str | Path, batch_size: int = AT_ONCE, **options: Any
) -> Path:
    """Draws a network's maps over each frame of a video.

    At no time more than `batch_size` frames are in memory. Each map is scaled by itself, as that of
    an image is. Sound is left out.

    Args:
      network: a run, as `lficam_jax.load` opens it; or a function of a list of frames (arrays
        `[y x 3]`, uint8) that returns `Explanations`.
      path: of the video, of any kind that FFmpeg reads.
      out: of the new one; its ending says its kind: `.mp4`, `.mkv`, `.webm`, … It replaces a file
        of that name.
      batch_size: frames at once.
      **options: as for `explain`: `method` (the maps of several lie side by side), `target`, ….

    Returns:
      The path of the new video.

    Raises:
      UserError: if the extra `video` is not installed, the file is not there, holds no video, no
        frame, or one that cannot be read; nothing is left at `out` then.

    Example:
      >>> import lficam_jax as lfi
      >>> run = lfi.load("runs/quickstart")
      >>> lfi.explain_video(run, "clip.mp4", out="looked.mp4", method="grad_cam").name
      'looked.mp4'
    """
    av, source, target = _av(), check_path("path", path), check_path("out", out)
    check_whole("batch_size", batch_size)
    look = network.explain if hasattr(network, "explain") else network
    if not callable(look):
        raise UserError(f"network must be a run or a function of frames, not {brief(network)}")
    if os.path.realpath(source) == os.path.realpath(target):
        raise UserError(f"out is the video itself ({target}); give another name")
    part = target.with_name(f".part-{target.name}")
    try:
        with _opened(av, source) as video:
            drawn = _drawn(look, _frames(av, video, source), batch_size, options)
            _write(av, part, drawn, video.streams.video[0].average_rate or 25, source)
        with _writing(av, target):
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise UserError(
            "videos need the package av; install it with pip install 'lficam_jax[video]'"
        ) from error
    return av


@contextmanager
def _opened(av: Any, path: Path) -> Iterator[Any]:
    """Opens a video. A playlist is none: FFmpeg would read whatever file or address it names."""
    if not path.exists():
        raise UserError(f"there is no file {path}")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(plain_file(path).open("rb"))
            video = stack.enter_context(av.open(file, options={"protocol_whitelist": "none"}))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UserError(f"{path} is no video that can be read: {_told(error)}") from error
        if not video.streams.video:
            kinds = " and ".join(sorted({stream.type for stream in video.streams})) or "nothing"
            raise UserError(f"{path} holds no video, only {kinds}; give a file with pictures")
        yield video


def _frames(av: Any, video: Any, path: Path) -> Iterator[Frame]:
    """Yields the frames one by one.

    Raises:
      UserError: for one that cannot be read, or if there is none.
    """
    count = 0
    try:
        for frame in video.decode(video.streams.video[0]):
            yield frame.to_ndarray(format="rgb24")
            count += 1
    except av.FFmpegError as error:
        raise UserError(
            f"{path} is damaged: frame {count} cannot be read ({_told(error)}); give a whole file, "
            "or cut the video before it"
        ) from error
    if not count:
        raise UserError(f"{path} holds no frame; give a video that shows something")


def _drawn(
    look: Callable[..., Explanations], frames: Iterator[Frame], size: int, options: dict[str, Any]
) -> Iterator[Frame]:
    while batch := list(islice(frames, size)):
        found = look(batch, **options)
        if not isinstance(found, Sequence):
            raise UserError(f"network must return the Explanations of frames, not {brief(found)}")
        for same in by_image(found):
            yield np.hstack([np.asarray(item.overlay()) for item in same])


def _write(av: Any, path: Path, frames: Iterator[Frame], rate: Any, source: Path) -> None:
    """Writes a video of frames of one size."""
    if (shown := next(frames, None)) is None:
        raise UserError("the network explained no frame; its function must answer for each")
    # Colours are stored for two by two pixels: of an odd side the last line is left out.
    height, width = (side - side % 2 for side in shown.shape[:2])
    with _writing(av, path):
        video = av.open(str(path), "w")
    with closing(video):
        with _writing(av, path):
            stream = video.add_stream(video.default_video_codec, rate=rate)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        while shown is not None:
            frame = _frame(av, shown, height, width, source)
            with _writing(av, path):
                video.mux(stream.encode(frame))
            shown = next(frames, None)  # what goes wrong here is not of the file that is written
        with _writing(av, path):
            video.mux(stream.encode())
            video.close()


@contextmanager
def _writing(av: Any, path: Path) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, ValueError, OSError) as error:
        raise UserError(
            f"cannot write {path.name.removeprefix('.part-')}: {_told(error)}; end its name in "
            ".mp4, .mkv or .webm, in a folder that is there"
        ) from error


def _frame(av: Any, shown: Frame, height: int, width: int, source: Path) -> Any:
    if shown.shape[0] < height or shown.shape[1] < width:
        raise UserError(f"{source}: its frames change their size; cut it where they do")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(shown[:height, :width]), format="rgb24")


def _told(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error)
