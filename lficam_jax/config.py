"""The configuration: every key with its meaning, the checks, and the one rule for durations.

A file in `configs/` starts from `default_config()`, sets what differs and ends with
`return finish(config, smoke)`. Nothing else in the project holds a hyper-parameter, and nothing
reads a key with a fallback.
"""

import json
import re
from typing import Any

from ml_collections import ConfigDict

from lficam_jax.errors import UserError, nearest

CHOICES = {
    "data.pipeline": ("auto", "resident", "streaming"),
    "data.augment": ("none", "crop", "crop_flip", "resized_crop_flip"),
    "data.fit": ("", "crop", "pad", "stretch"),
    "data.background": ("", "white", "grey", "black"),
    "data.interpolation": ("", "bilinear", "bicubic", "lanczos", "hamming", "box", "nearest"),
    "model.backbone": tuple(
        "cifar_resnet cifar_densenet cifar_resnext wide_resnet resnet se_resnet densenet vgg "
        "mobilenet efficientnet_lite convnext".split()
    ),
    "model.block": ("auto", "basic", "bottleneck"),
    "model.head": ("plain", "lfi", "abn"),
    "model.dtype": ("float32", "bfloat16"),
    "model.fin.kind": ("learned", "uniform"),
    "model.abn.loss": ("both", "perception", "attention"),
    "optim.name": ("sgd", "adamw"),
    "optim.schedule": ("constant", "cosine", "multistep"),
    "optim.weight_decay_on": ("all", "kernels"),
    "explain.align": ("centres", "half_pixel"),
    "explain.blend": ("fade", "mix"),
    "parallel.mode": ("pmap", "shard_map"),
    "parallel.platform": ("auto", "cpu", "gpu", "tpu"),
}

# What each numeric key is, a whole number (int) or any, and from where to where; of a list, each.
_MANY = 2**31 - 1
_SPANS = {
    (int, -_MANY, _MANY): "seed", (int, 0, 3): "data.channels", (int, 0, 2): "model.stem_stride",
    (int, 0, _MANY): "data.train_examples data.max_corrupt optim.warmup_steps train.total_steps "
    "train.checkpoint_every_steps eval.every_steps",
    (int, 1, _MANY): "explain.limit train.log_every_steps train.keep_latest train.batch_size "
    "eval.batch_size optim.accumulate parallel.connect_seconds parallel.heartbeat_seconds",
    (int, 0, 9999): "data.image_size data.crop_padding data.threads model.growth model.widen "
    "model.cardinality model.depth model.fin.width model.fin.relu_every",
    (int, 1, 9999): "model.fin.depth model.fin.kernel",
    (float, 0, 1): "data.mean data.crop_share",
    (float, 0, 0.999999): "optim.momentum optim.b2 optim.label_smoothing optim.ema_decay",
    (float, 0, 1e30): "optim.lr optim.weight_decay optim.clip_norm",
    (float, 0, 1e6): "optim.milestones_epochs optim.factor optim.warmup_epochs train.total_epochs "
    "train.watchdog_seconds eval.every_epochs",
    (float, 1e-6, 1e6): "data.std model.fin.temperature",
}  # fmt: skip
NUMBERS = {key: span for span, keys in _SPANS.items() for key in keys.split()}

DURATIONS = ("optim.warmup", "train.total", "eval.every")  # …_epochs or …_steps; the other is 0


def default_config() -> ConfigDict:
    """Returns every key of the project with its default; 0 or '' means "off" or "derive it"."""
    config = ConfigDict()
    config.seed = 0  # initial weights, order of the data, augmentation
    config.init_from = ""  # fine-tune: WORKDIR (its best step), WORKDIR/checkpoints/STEP, or the
    # name of a pretrained network; a head or classifier that does not fit starts fresh
    config.data = _data()
    config.model = _model()
    config.optim = _optim()
    config.train = _train()
    config.eval = _eval()
    config.explain = _explain()
    config.parallel = _parallel()
    return config


def _data() -> ConfigDict:
    data = ConfigDict()
    data.name = "cluttered_digits"  # a row of data/datasets.py, `folder`, or a name known to TFDS
    data.dir = ""  # where data sets are prepared; '' = $TFDS_DATA_DIR, else ~/tensorflow_datasets
    data.folder = ""  # for name='folder': CLASS/image files, or {train,validation,test}/CLASS/
    data.split_file = ""  # a folder's CSV of path,class,split; '' = by its own folders, or by
    # content; '*' = nothing is divided: each split is all of CLASS/, to measure it
    data.synthetic = False  # draw pictures like the data set's, unless dir or folder is given
    data.pipeline = "auto"  # resident: on the device as uint8; streaming: decoded by host threads
    data.classes = ()  # names in label order; () = the data set's own (a folder's: sorted)
    data.image_size = 0  # pixels per side fed to the network; 0 = the data set's own
    data.channels = 0  # 1: colour is dropped; 3; 0 = the data set's own
    data.mean = ()  # of pixels in 0..1; () = the data set's own, or of init_from's network
    data.std = ()  # standard deviation, likewise
    data.fit = ""  # to a square: crop its centre | pad with the mean colour | stretch; '' = crop
    data.crop_share = 0.0  # of the short side, the central square that evaluation looks at (crop);
    # 0 = 224/256 after random resized crops, else 1
    data.interpolation = ""  # how pictures are scaled; '' = bilinear (random resized crops: always)
    data.background = ""  # what transparent pixels are laid on: white | grey | black; '' = white
    data.augment = "none"  # crop: pad and crop at random; flip: mirror; resized_crop: of Inception
    data.crop_padding = 4  # pixels added on each side before the random crop
    data.train_examples = 0  # train on the first n examples only; 0 = all
    data.threads = 0  # host threads that read and decode (streaming); 0 = one per core
    data.max_corrupt = 0  # damaged pictures that training passes over; one more stops the run
    return data


def _model() -> ConfigDict:
    model = ConfigDict()
    model.backbone = "cifar_resnet"
    model.depth = 20
    # Options of one family each, for which 0 and auto mean its default.
    model.block = "auto"  # cifar_resnet: basic | bottleneck; auto: bottleneck from depth 44
    model.growth = 0  # cifar_densenet: channels that each layer adds (12)
    model.cardinality = 0  # cifar_resnext (8), resnet (1): groups of a 3x3 convolution
    model.widen = 0  # cifar_resnext (4), wide_resnet (10), resnet (1): times as many channels
    model.stem_stride = 0  # resnet, se_resnet: 1 | 2 (head lfi: 1, a finer map; others: 2)
    model.head = "lfi"
    model.dtype = "float32"  # of activations; parameters, statistics, softmax and loss stay float32
    model.remat = False  # compute the inside of blocks again: less memory, a third more work
    model.fin = fin = ConfigDict()  # the Feature Importance Network; defaults are the paper's
    fin.kind = "learned"  # uniform: every channel weighs the same (attention without FIN)
    fin.width = 0  # channels inside FIN; 0 = as many as the features have
    fin.depth = 4  # convolutions
    fin.kernel = 3
    fin.relu_every = (
        0  # a ReLU after every n-th convolution; 0 = 1 in networks for 224 pixels, else 2
    )
    fin.softmax = True  # False: the pooled values divided by their sum
    fin.temperature = 1.0  # of the softmax over channels; low is sharp
    fin.learn_temperature = False  # train it, starting from `temperature`
    fin.normalise_features = True  # scale each channel to [0, 1] before the grey image masks it
    fin.mask_image = True  # False: FIN sees the channels themselves, not the grey image under them
    model.abn = abn = ConfigDict()  # the Attention Branch Network
    abn.loss = "both"  # perception | attention: train one branch, which then gives the prediction
    return model


def _optim() -> ConfigDict:
    optim = ConfigDict()
    optim.name = "sgd"
    optim.lr = 0.1  # peak learning rate, for the whole batch
    optim.momentum = 0.9
    optim.nesterov = False
    optim.b2 = 0.999  # AdamW's second-moment decay
    optim.weight_decay = 1e-4
    optim.weight_decay_on = "all"  # all: as torch SGD and the papers; kernels: not BN, not biases
    optim.schedule = "multistep"
    optim.milestones_epochs = (150, 225)  # multistep: where lr is multiplied by `factor`
    optim.factor = 0.1
    optim.warmup_epochs = 0.0  # linear, from 0; for every schedule; at most a quarter of the run
    optim.warmup_steps = 0
    optim.clip_norm = 0.0  # largest global norm of the gradient; 0 = no clipping
    optim.freeze = ""  # parameters that stay: a regular expression that matches their whole paths,
    # '(trunk|last_stage)/.*' or 'trunk/stage1/.*'; their BatchNorm statistics still follow the data
    optim.label_smoothing = 0.0
    optim.accumulate = 1  # microbatches per step and device; the batch and its result stay the same
    optim.ema_decay = 0.0  # evaluate a running mean of the weights; 0 = the weights themselves
    return optim


def _train() -> ConfigDict:
    train = ConfigDict()
    train.batch_size = 128  # over all devices
    train.total_epochs = 300.0
    train.total_steps = 0
    train.log_every_steps = 50
    train.checkpoint_every_steps = 0  # between the ones after each evaluation
    train.keep_latest = 2  # checkpoints kept beside the best on the validation split
    train.tensorboard = True
    train.watchdog_seconds = 0.0  # end the process if a step takes longer; 0 = never
    return train


def _eval() -> ConfigDict:
    evaluation = ConfigDict()
    evaluation.batch_size = 256  # over all devices
    evaluation.every_epochs = 1.0  # of the validation split; the best of these is kept
    evaluation.every_steps = 0
    return evaluation


def _explain() -> ConfigDict:
    explain = ConfigDict()
    explain.split = "test"
    explain.limit = 64  # examples of the split that `lficam explain` draws
    explain.align = "centres"  # maps lie where cells look; half_pixel: cells tile the picture
    explain.blend = "fade"  # of maps and pictures: what is cold is clear; mix: nothing is
    return explain


def _parallel() -> ConfigDict:
    parallel = ConfigDict()
    parallel.mode = "pmap"
    parallel.sync_batch_norm = True  # statistics over the whole batch; False: per device
    parallel.platform = "auto"  # cpu | gpu | tpu: it must be there; auto: what jax chooses
    # With --distributed:
    parallel.connect_seconds = 300  # for all processes to come
    parallel.heartbeat_seconds = 100  # after which a silent process counts as dead
    return parallel


def options(arg: str, **defaults: Any) -> tuple[ConfigDict, bool]:
    """Parses what follows the colon in `--config file.py:arg`.

    Args:
      arg: `name=value` pairs and the word `smoke`, between commas or colons, for example
        `depth=110,head=plain:smoke`.
      **defaults: the options that this config file knows; a value keeps its default's type.

    Returns:
      The options, and whether `smoke` was among the words.

    Raises:
      UserError: for a word that is neither.
    """
    parsed, smoke_wanted = dict(defaults), False
    for word in filter(None, arg.replace(":", ",").split(",")):
        name, _, value = word.partition("=")
        if word == "smoke":
            smoke_wanted = True
        elif name in defaults and value:
            kind = type(defaults[name])
            try:
                parsed[name] = kind(value)
            except ValueError as error:
                raise UserError(f"config option {word} is not of type {kind.__name__}") from error
        else:
            known = ["smoke", *(f"{n}=…" for n in defaults)]
            raise UserError(f"config option {word!r} is unknown here{nearest(name, known)}")
    return ConfigDict(parsed), smoke_wanted


_SMALL: dict[str, dict[str, Any]] = {
    "cifar_resnet": {"depth": 8}, "cifar_densenet": {"depth": 10}, "se_resnet": {"depth": 50},
    "cifar_resnext": {"depth": 11, "cardinality": 2, "widen": 1}, "densenet": {"depth": 121},
    "wide_resnet": {"depth": 10, "widen": 1}, "efficientnet_lite": {"depth": 0}, "resnet": {},
    "vgg": {"depth": 11}, "mobilenet": {"depth": 2}, "convnext": {"depth": 18},
}  # fmt: skip


def smoke(config: ConfigDict) -> ConfigDict:
    """Shrinks any config to seconds: the whole program runs, nothing is learnt.

    Pictures are drawn unless `data.dir` or `data.folder` says where real ones lie; they are small,
    and the network is the least of its family.
    """
    model = config.model
    if model.backbone == "cifar_resnet" and model.block == "auto" and model.depth >= 44:
        model.block = "bottleneck"  # of the depth that it had
    model.update(_SMALL[model.backbone])
    if model.backbone == "resnet":
        model.depth = 18 if model.depth < 50 else 50
    if not model.backbone.startswith(("cifar_", "wide_")):
        model.fin.width = 32
    config.data.synthetic, config.data.train_examples = True, 64
    config.data.image_size = min(config.data.image_size, 48)
    config.train.batch_size, config.eval.batch_size = 16, 16
    config.train.total_epochs, config.train.total_steps = 0.0, 4
    config.train.log_every_steps, config.explain.limit = 1, 8
    config.optim.warmup_epochs, config.optim.warmup_steps = 0.0, 1
    config.eval.every_epochs, config.eval.every_steps = 0.0, 2
    return config


def finish(config: ConfigDict, smoke_wanted: bool) -> ConfigDict:
    """Ends every config file: applies `smoke` last."""
    return smoke(config) if smoke_wanted else config


def duration(group: ConfigDict, name: str, steps_per_epoch: int) -> int:
    """Returns the duration `name` in steps, given as `{name}_epochs` or `{name}_steps`."""
    steps: int = group[f"{name}_steps"]
    return steps or round(group[f"{name}_epochs"] * steps_per_epoch)


def validate(config: ConfigDict) -> None:
    """Raises one UserError that lists everything that is wrong with `config`."""
    data = config.data
    problems = [*_bad_choices(config), *_bad_durations(config), *_bad_numbers(config)]
    problems += _bad_data(data)
    if data.name == "folder" and not (data.folder or data.synthetic or data.classes):
        problems.append("data.folder is empty; say --config.data.folder=DIR with CLASS/*.jpg")
    try:
        re.compile(config.optim.freeze)
    except re.error as error:
        problems.append(f"optim.freeze={config.optim.freeze!r} is no regular expression: {error}")
    if problems:
        gap = "\n  " if len(problems) > 1 else " "
        raise UserError(gap.join(["the config is not valid:", *problems]))


def as_json(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as JSON gives it back: tuples become lists."""
    plain: dict[str, Any] = json.loads(config.to_json_best_effort())
    return plain


def _bad_choices(config: ConfigDict) -> list[str]:
    asked = {path: _at(config, path) for path in CHOICES}
    return [
        f"{path}={word!r} is unknown{nearest(str(word), CHOICES[path])}"
        for path, word in asked.items() if word not in CHOICES[path]
    ]  # fmt: skip


def _bad_durations(config: ConfigDict) -> list[str]:
    problems = []
    for path in DURATIONS:
        group, name = path.split(".")
        epochs, steps = config[group][f"{name}_epochs"], config[group][f"{name}_steps"]
        if epochs and steps:
            problems.append(
                f"{path}_epochs={epochs:g} and {path}_steps={steps} give one duration twice; "
                f"set one of them to 0"
            )
        if not (epochs or steps) and name != "warmup":
            problems.append(f"{path}_epochs and {path}_steps are both 0; set one of them")
    return problems


def _bad_numbers(config: ConfigDict) -> list[str]:
    problems = []
    for path, (kind, low, high) in NUMBERS.items():
        value = _at(config, path)
        several, known = isinstance(value, tuple | list), int if kind is int else int | float
        each = value if several else [value]
        if not all(isinstance(v, known) and v is not True and low <= v <= high for v in each):
            what = ("hold " if several else "be a ") + "whole " * (kind is int)
            span = f"from {low:,g} to {high:,g}" if kind is float else f"from {low:,d} to {high:,d}"
            problems.append(f"{path}={value} must {what}number{'s' * several} {span}")
    if config.model.fin.kernel % 2 == 0:
        problems.append(f"model.fin.kernel={config.model.fin.kernel} must be odd")
    return problems


def _bad_data(data: ConfigDict) -> list[str]:
    bad = {
        "mean": (len(data.mean or ()) not in (0, 3), "hold three numbers, or none"),
        "std": (len(data.std or ()) not in (0, 3) or not all(std > 0 for std in data.std or ()),
                "hold three positive numbers, or none"),
        "channels": (data.channels not in (0, 1, 3), "be 1 or 3, or 0 for the data set's own"),
        "classes": (len({*data.classes}) < len(data.classes), "hold different names, or none"),
    }  # fmt: skip
    return [f"data.{k}={data[k]} must {how}" for k, (wrong, how) in bad.items() if wrong]


def _at(config: ConfigDict, path: str) -> Any:
    for name in path.split("."):
        config = config[name]
    return config
