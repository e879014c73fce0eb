"""The table of data sets: what each is called, how it is split, and the numbers that go with it.

A row is all that the project knows of a data set before it opens the files. The best epoch is
chosen on `validation` and `test` is touched once, so every row has three disjoint splits: where the
publishers gave two, the validation split is a slice of their training split.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lficam_jax.config.size import Size, sides

# Keys of `data` that a run knows by itself: empty means "derive it", and the config.json of a run
# holds what it came to, so that its network can be used where the data are gone.
RECORDED = (
    "classes", "mean", "std", "image_size", "channels", "crop_share", "interpolation",
    "background", "fit", "labels", "number",
)  # fmt: skip
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set.

    Attributes:
      name: what `config.data.name` says.
      tfds_name: its name (and config) in TensorFlow Datasets; '' for a folder of images.
      num_classes: number of labels.
      image_size: pixels per side that the network is fed; two numbers: rows and columns.
      mean: per channel, of pixels in 0..1; three values, for greyscale images thrice the same.
      std: standard deviation, likewise.
      splits: our split -> the TFDS expression that reads it.
      examples: our split -> number of examples.
      classes: class names in label order; () if only the prepared files know them.
      channels: of the stored images, 1 or 3. One channel is repeated before normalisation.
      stored_size: pixels per side of the stored images; 0 if they differ.
      has_mask: whether each image comes with the pixels of its object.
      prepared_by: 'lficam_jax.prepare' (needs no TensorFlow) or 'tfds'.
      fit: how a picture gets this shape, where nothing is cut out at random: crop, pad or stretch.
      crop_share: of the short side, the central part that an evaluation looks at: 224/256 after
        a training with random resized crops, else 1.
      interpolation: how pictures are scaled, a filter of Pillow's.
      background: what transparent pixels are laid on, a key of `arrays.BACKGROUNDS`.
      labels: what an example has: a `class`, `several` labels, each present or not, or a `number`.
      asks: whether each example asks about one of its labels, whose pixels `mask` holds.
      number: mean and deviation of the numbers to train on.
      citation: where the data come from.
      licence: under which terms.
    """

    name: str
    tfds_name: str
    num_classes: int
    image_size: Size
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    splits: Mapping[str, str]
    examples: Mapping[str, int]
    classes: tuple[str, ...] = ()
    channels: int = 3
    stored_size: int = 0
    has_mask: bool = False
    prepared_by: str = "tfds"
    fit: str = "crop"
    crop_share: float = 1.0
    interpolation: str = "bilinear"
    background: str = "white"
    labels: str = "class"
    asks: bool = False
    number: tuple[float, float] = (0.0, 1.0)
    citation: str = ""
    licence: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of what the network is fed."""
        return sides(self.image_size)


def _splits(
    *, train: tuple[str, int], validation: tuple[str, int], test: tuple[str, int]
) -> dict[str, Any]:
    rows = {"train": train, "validation": validation, "test": test}
    return {
        "splits": {split: expression for split, (expression, _) in rows.items()},
        "examples": {split: count for split, (_, count) in rows.items()},
    }


_OURS = "lficam_jax.prepare"
_DIGITS = tuple("0123456789")
_CIFAR = {
    "image_size": 32,
    "stored_size": 32,
    "mean": (0.4914, 0.4822, 0.4465),  # of CIFAR-10; the paper's recipes use it for both
    "std": (0.2023, 0.1994, 0.2010),
    "prepared_by": _OURS,
    "citation": "Krizhevsky, Learning multiple layers of features from tiny images, 2009",
    "licence": "none stated by the authors",
    **_splits(
        train=("train[:45000]", 45_000),
        validation=("train[45000:]", 5_000),
        test=("test", 10_000),
    ),
}

_CLUTTERED = {
    "num_classes": 10,
    "classes": _DIGITS,
    "image_size": 48,
    "stored_size": 48,
    "has_mask": True,
    "prepared_by": _OURS,
    "citation": "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
    "licence": "CC BY 4.0 (the digits)",
    **_splits(train=("train", 6_000), validation=("validation", 1_000), test=("test", 2_000)),
}

_ROWS = (
    Dataset(
        name="cluttered_digits",
        tfds_name="cluttered_digits",
        # The training split's own is (0.340, 0.357, 0.323); runs were trained with this one.
        mean=(0.345, 0.359, 0.325),
        std=(0.210, 0.229, 0.194),
        **_CLUTTERED,
    ),
    Dataset(
        name="two_digits",
        tfds_name="two_digits",
        mean=(0.320, 0.337, 0.307),
        std=(0.203, 0.221, 0.189),
        labels="several",
        asks=True,
        **_CLUTTERED,
    ),
    Dataset(
        name="fashion_mnist",
        tfds_name="fashion_mnist",
        num_classes=10,
        classes=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
        + ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        image_size=28,
        stored_size=28,
        channels=1,
        mean=(0.2860,) * 3,
        std=(0.3530,) * 3,
        prepared_by=_OURS,
        citation="Xiao, Rasul, Vollgraf, Fashion-MNIST, arXiv 1708.07747, 2017",
        licence="MIT",
        **_splits(
            train=("train[:55000]", 55_000),
            validation=("train[55000:]", 5_000),
            test=("test", 10_000),
        ),
    ),
    Dataset(
        name="cifar10",
        tfds_name="cifar10",
        num_classes=10,
        classes=("airplane", "automobile", "bird", "cat", "deer")
        + ("dog", "frog", "horse", "ship", "truck"),
        **_CIFAR,
    ),
    Dataset(name="cifar100", tfds_name="cifar100", num_classes=100, **_CIFAR),
    Dataset(
        name="svhn_cropped",
        tfds_name="svhn_cropped",
        num_classes=10,
        classes=_DIGITS,
        image_size=32,
        stored_size=32,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        prepared_by=_OURS,
        citation="Netzer et al., Reading digits in natural images, NIPS workshop 2011",
        licence="non-commercial use only",
        **_splits(
            train=("train[:68257]", 68_257),
            validation=("train[68257:]", 5_000),
            test=("test", 26_032),
        ),
    ),
    Dataset(
        name="stl10",
        tfds_name="stl10",
        num_classes=10,
        classes=("airplane", "bird", "car", "cat", "deer")
        + ("dog", "horse", "monkey", "ship", "truck"),
        image_size=96,
        stored_size=96,
        mean=(0.4467, 0.4398, 0.4066),
        std=(0.2603, 0.2566, 0.2713),
        prepared_by=_OURS,
        citation="Coates, Lee, Ng, Analysis of single-layer networks, AISTATS 2011",
        licence="of ImageNet, from which the images come: non-commercial research",
        **_splits(
            train=("train[:4500]", 4_500),
            validation=("train[4500:]", 500),
            test=("test", 8_000),
        ),
    ),
    Dataset(
        name="elpv",
        tfds_name="elpv",
        num_classes=2,
        classes=("functional", "defective"),
        image_size=300,
        stored_size=300,
        channels=1,
        mean=(0.5971,) * 3,
        std=(0.1614,) * 3,
        prepared_by=_OURS,
        citation="Deitsch et al., Automatic classification of defective photovoltaic module cells "
        "in electroluminescence images, Solar Energy 185, 2019",
        licence="CC BY-NC-SA 4.0: non-commercial use only",
        **_splits(train=("train", 1_693), validation=("validation", 265), test=("test", 666)),
    ),
    Dataset(
        name="cats_vs_dogs",
        tfds_name="cats_vs_dogs",
        num_classes=2,
        classes=("cat", "dog"),
        image_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        citation="Elson et al., Asirra, ACM CCS 2007",
        licence="of Microsoft Research, see the download page",
        **_splits(
            train=("train[:18610]", 18_610),
            validation=("train[18610:20936]", 2_326),
            test=("train[20936:]", 2_326),
        ),
    ),
    Dataset(
        name="imagenet2012",
        tfds_name="imagenet2012",
        num_classes=1000,
        image_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        citation="Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015",
        licence="non-commercial research, after registration",
        **_splits(
            train=("train[:1271167]", 1_271_167),
            validation=("train[1271167:]", 10_000),
            test=("validation", 50_000),
        ),
    ),
    Dataset(
        name="imagenette",
        tfds_name="imagenette/320px-v2",
        num_classes=10,
        image_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        citation="Howard, Imagenette, github.com/fastai/imagenette, 2019",
        licence="Apache-2.0; the images are ImageNet's",
        **_splits(
            train=("train[:8469]", 8_469),
            validation=("train[8469:]", 1_000),
            test=("validation", 3_925),
        ),
    ),
    Dataset(
        name="oxford_iiit_pet",
        tfds_name="oxford_iiit_pet",
        num_classes=37,
        image_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        has_mask=True,
        citation="Parkhi et al., Cats and dogs, CVPR 2012",
        licence="CC BY-SA 4.0",
        **_splits(
            train=("train[:3180]", 3_180),
            validation=("train[3180:]", 500),
            test=("test", 3_669),
        ),
    ),
)

DATASETS: Mapping[str, Dataset] = {row.name: row for row in _ROWS}
