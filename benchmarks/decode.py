"""Images per second per core: decode a JPEG of 500x375, cut a random box, scale it to 224.

  python benchmarks/decode.py [--pictures 64] [--rounds 7] [--quality 85]

Compares decoders (docs/benchmarks.md, "Decoding images"), then measures this project's whole
streaming pipeline on a generated folder in ImageNet's layout. All ways run in turn, round after
round, so that they share whatever else the machine does; rates are per second of CPU time, which
other programs disturb less than the clock. It writes nothing but a temporary folder. --write DIR
makes that folder and measures nothing.
"""

import argparse
import io
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, features

sys.path.insert(0, str(Path(__file__).parent.parent))

from lficam_jax.config import default_config
from lficam_jax.data import open_pipeline
from lficam_jax.data.sampling import generator
from lficam_jax.data.transforms import crop_scale, random_box, resample

SIZE, HEIGHT, WIDTH = 224, 375, 500
SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")
Way = Callable[[bytes, int], np.ndarray]


def picture(seed: int) -> Image.Image:
    """Draws noise whose spectrum falls off as that of photographs, 1/f."""
    random = np.random.default_rng(seed)
    y, x = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    falloff = np.maximum(np.hypot(y, x), 1 / WIDTH)

    def noise(power: float) -> np.ndarray:
        spectrum = np.fft.rfft2(random.normal(size=(HEIGHT, WIDTH))) / falloff**power
        return np.fft.irfft2(spectrum, s=(HEIGHT, WIDTH))

    shared = noise(1.0)
    channels = np.stack([shared + 0.5 * noise(1.4) for _ in range(3)], -1)
    scaled = (channels - channels.mean((0, 1))) / channels.std((0, 1))
    return Image.fromarray(np.clip(128 + 50 * scaled, 0, 255).astype(np.uint8))


def box(i: int) -> tuple[int, int, int, int]:
    """Returns the i-th random box: top, left, height, width."""
    return random_box(generator(0, i), HEIGHT, WIDTH)


def pillow(content: bytes, i: int) -> np.ndarray:
    """Pillow alone."""
    return resample(np.asarray(Image.open(io.BytesIO(content))), box(i), SIZE)


def pillow_draft(content: bytes, i: int) -> np.ndarray:
    """Pillow alone, decoding at 1/2 or 1/4 where the box is large enough."""
    top, left, height, width = box(i)
    image = Image.open(io.BytesIO(content))
    image.draft("RGB", (math.ceil(WIDTH * SIZE / width), math.ceil(HEIGHT * SIZE / height)))
    s = image.width / WIDTH
    part = (left * s, top * s, (left + width) * s, (top + height) * s)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=part))


def opencv(content: bytes, i: int) -> np.ndarray:
    """OpenCV alone."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    return crop_scale(image, box(i), SIZE)


def pillow_opencv(content: bytes, i: int) -> np.ndarray:
    """Pillow decodes, OpenCV scales."""
    return crop_scale(np.asarray(Image.open(io.BytesIO(content))), box(i), SIZE)


def simplejpeg_pillow(content: bytes, i: int) -> np.ndarray:
    """Simplejpeg decodes, Pillow scales."""
    return resample(simplejpeg.decode_jpeg(content), box(i), SIZE)


def simplejpeg_opencv(content: bytes, i: int) -> np.ndarray:
    """Simplejpeg decodes, OpenCV scales: this project's way."""
    return crop_scale(simplejpeg.decode_jpeg(content), box(i), SIZE)


def fast_opencv(content: bytes, i: int) -> np.ndarray:
    """The same with the decoder's two inexact shortcuts."""
    return crop_scale(
        simplejpeg.decode_jpeg(content, fastdct=True, fastupsample=True), box(i), SIZE
    )


WAYS = (pillow, pillow_draft, simplejpeg_pillow, pillow_opencv, opencv, simplejpeg_opencv,
        fast_opencv)  # fmt: skip


def compare(contents: list[bytes], rounds: int) -> None:
    """Prints the rate of each way with one and two threads."""
    rates: dict[tuple[Way, int], list[float]] = {}
    jobs = [(content, i) for i, content in enumerate(contents)]
    for _ in range(rounds + 1):  # the first is thrown away
        for way in WAYS:
            for threads in (1, 2):
                with ThreadPoolExecutor(threads) as pool:
                    start = time.process_time()
                    list(pool.map(lambda job, way=way: way(*job), jobs))
                    rate = len(jobs) / (time.process_time() - start)
                rates.setdefault((way, threads), []).append(rate)
    for way in WAYS:
        kept = [rates[way, threads][1:] for threads in (1, 2)]
        shown = (f"{statistics.median(rate):6.0f} {max(rate):6.0f}" for rate in kept)
        print(f"{way.__name__:18}", *shown)


def write(contents: list[bytes], folder: Path, copies: int) -> None:
    """Writes a folder in ImageNet's layout; the training split has each picture so many times."""
    for split in ("train", "validation", "test"):
        for i, content in enumerate(contents * copies if split == "train" else contents):
            path = folder / split / SYNSETS[i % 4] / f"{SYNSETS[i % 4]}_{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def pipeline(contents: list[bytes], folder: Path, rounds: int, copies: int) -> None:
    """Prints the rate of the whole pipeline, files to batches of 64, for numbers of threads."""
    write(contents, folder, copies)
    data = default_config().data
    data.name, data.folder, data.augment = "folder", str(folder), "resized_crop_flip"
    rates: dict[int, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for threads in (1, 2, 4, 8, 16):
            data.threads = threads
            batches = open_pipeline(data, "train", batch_size=64, train=True).batches(0)
            next(batches)
            cpu, clock = time.process_time(), time.perf_counter()
            count = sum(len(batch["label"]) for batch in islice(batches, 8))
            taken = time.process_time() - cpu, time.perf_counter() - clock
            rates.setdefault(threads, []).append((count / taken[0], count / taken[1]))
    for threads, pairs in rates.items():
        cpu, clock = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"pipeline, {threads:2} threads {cpu:6.0f} per CPU second, {clock:6.0f} by the clock")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quality", type=int, default=85)
    parser.add_argument("--copies", type=int, default=4, help="of each in the folder's train split")
    parser.add_argument("--write", type=Path, help="only write the folder, there; measure nothing")
    arguments = parser.parse_args()
    contents = []
    for seed in range(arguments.pictures):
        buffer = io.BytesIO()
        picture(seed).save(buffer, "jpeg", quality=arguments.quality)
        contents.append(buffer.getvalue())
    if arguments.write:
        write(contents, arguments.write, arguments.copies)
        return
    print(f"Pillow {Image.__version__} (libjpeg-turbo {features.version('libjpeg_turbo')}), "
          f"OpenCV {cv2.__version__}, simplejpeg {simplejpeg.__version__}; "
          f"{np.mean([len(c) for c in contents]) / 1000:.0f} kB a picture")  # fmt: skip
    print("images per second of CPU time: median and best round with 1 thread, and with 2")
    compare(contents, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        pipeline(contents, Path(folder), arguments.rounds, arguments.copies)


if __name__ == "__main__":
    main()
