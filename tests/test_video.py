"""A video in, maps over its frames out; and what a file that is none gets told."""

import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import jax
import numpy as np
import pytest

import lficam_jax as lfi
from lficam_jax.errors import UserError
from lficam_jax.explaining import video
from lficam_jax.explaining.run import _new, run_video
from lficam_jax.explaining.session import Session

FRAMES, RATE = 7, Fraction(25, 2)


def write(path, frames=FRAMES, size=(32, 48)):
    """A white square walks to the right."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for i in range(frames):
            pixels = np.zeros((*size, 3), np.uint8)
            pixels[8:16, 4 * i : 4 * i + 8] = 255
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return path


def read(path):
    with av.open(str(path)) as found:
        stream = found.streams.video[0]
        return stream.average_rate, [f.to_ndarray(format="rgb24") for f in found.decode(stream)]


@pytest.fixture(scope="module")
def network():
    model = lfi.create_model("cifar_resnet", 8, head="plain", num_classes=3)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 16, 16, 3)))
    fed = lfi.Preprocess(image_size=16)

    def look(frames, **options):
        look.seen.append(len(frames))
        return lfi.explain(model, variables, frames, preprocess=fed, **options)

    look.seen = []
    return look


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4")


def test_every_frame_is_drawn_and_few_are_held(network, clip, tmp_path):
    network.seen.clear()
    out = lfi.explain_video(
        network, clip, out=tmp_path / "looked.mp4", batch_size=3,
        method=["mean_features", "grad_cam"],
    )  # fmt: skip
    assert network.seen == [3, 3, 1]
    rate, frames = read(out)
    assert rate == RATE and len(frames) == FRAMES
    height, width, _ = frames[0].shape
    # As an overlay is: enlarged, its pixels square; the maps of two methods lie side by side.
    assert width == 2 * height * 48 // 32 and height >= 200
    one, other = frames[0][:, : width // 2], frames[0][:, width // 2 :]
    assert np.abs(one.astype(int) - other).mean() > 1
    scale = height // 32
    # Left of what the network sees nothing is coloured: the square is there, and has gone.
    first, last = (frames[i][12 * scale, 4 * scale].mean() for i in (0, FRAMES - 1))
    assert first > 200 and last < 60
    assert [path.name for path in tmp_path.iterdir()] == ["looked.mp4"]


def test_files_that_are_no_video_are_told(network, clip, tmp_path):
    text, silent = tmp_path / "a.mp4", tmp_path / "sound.wav"
    text.write_text("no video")
    playlist, pipe = tmp_path / "list.m3u8", tmp_path / "pipe.mp4"  # it would read another file
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{clip}\n#EXT-X-ENDLIST\n")
    os.mkfifo(pipe)
    (circle := tmp_path / "circle.mp4").symlink_to("circle.mp4")
    with av.open(str(silent), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate = 8000
        out.mux(stream.encode(sound))
    for path, fragment in [
        (text, "a.mp4 is no video that can be read"),
        (silent, "holds no video, only audio"),
        (tmp_path / "none.mp4", "there is no file"),
        (tmp_path, "is no video that can be read"),
        (playlist, "is no video that can be read"),
        (pipe, "it is a pipe, not a file"),
        (circle, "there is no file|Too many levels"),
    ]:
        with pytest.raises(UserError, match=fragment):
            lfi.explain_video(network, path, out=tmp_path / "out.mp4")
    for out, fragment in [
        (clip, "out is the video itself"),
        (tmp_path / "out.xyz", "cannot write out.xyz.*end its name in .mp4"),
        (tmp_path / "no" / "out.mp4", "cannot write out.mp4.*a folder that is there"),
    ]:
        with pytest.raises(UserError, match=fragment):
            lfi.explain_video(network, clip, out=out)
    with pytest.raises(UserError, match="network must be a run or a function of frames, not 3"):
        lfi.explain_video(3, clip, out=tmp_path / "out.mp4")
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"a.mp4", "sound.wav", "list.m3u8", "pipe.mp4", "circle.mp4"}


def test_a_second_video_leaves_the_first(run, clip, tmp_path, monkeypatch, capsys):
    """One that fails leaves nothing."""
    monkeypatch.chdir(tmp_path)
    session = Session(run)
    for name in ("clip-maps.mp4", "clip-maps-2.mp4"):
        assert run_video(session, str(clip)) == 0 and capsys.readouterr().out.endswith(f"{name}\n")
        assert len(read(tmp_path / name)[1]) == FRAMES
    with pytest.raises(UserError, match="there is no file"):
        run_video(session, "absent.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {"clip-maps.mp4", "clip-maps-2.mp4"}


def test_where_no_name_is_free_another_place_is_asked_for(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write .*maps.mp4: .*; name another .* by --out"):
        _new(tmp_path / "file", "maps", ".mp4", Path.touch)


def test_a_video_without_frames_or_with_a_broken_one(clip):
    class Video:
        def __init__(self, frames):
            self.streams, self.decode = self, frames
            self.video = [None]

    found = video._frames(av, Video(lambda _: iter(())), clip)
    with pytest.raises(UserError, match="clip.mp4 holds no frame"):
        next(found)
    fine = [av.VideoFrame.from_ndarray(f, format="rgb24") for f in read(clip)[1][:2]]

    def two(_):
        yield from fine
        raise av.error.InvalidDataError(1, "Invalid data found")

    found = video._frames(av, Video(two), clip)
    assert next(found).shape == next(found).shape == (32, 48, 3)
    with pytest.raises(UserError, match="damaged: frame 2 cannot be read.*Invalid data"):
        next(found)


def test_without_the_extra_it_says_how_to_get_it(network, clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'lficam_jax\[video\]'"):
        lfi.explain_video(network, clip, out=tmp_path / "out.mp4")


def test_what_the_network_raises_is_not_said_of_the_file(network, clip, tmp_path):
    def fails(frames):
        raise ValueError("my own bug")

    with pytest.raises(ValueError, match="^my own bug$"):
        lfi.explain_video(fails, clip, out=tmp_path / "o.mp4")
    with pytest.raises(lfi.UserError, match="explained no frame"):
        lfi.explain_video(lambda frames: network(frames)[:0], clip, out=tmp_path / "o.mp4")
    with pytest.raises(lfi.UserError, match="must return the Explanations of frames, not None"):
        lfi.explain_video(lambda frames: None, clip, out=tmp_path / "o.mp4")
    assert not [*tmp_path.iterdir()]
