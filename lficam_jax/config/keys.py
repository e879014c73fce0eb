"""Every key with its meaning and its default.

Nothing else in the project holds a hyper-parameter, and nothing reads a key with a fallback.
"""

import json
from typing import Any

from ml_collections import ConfigDict, FieldReference


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
    data.labels_file = ""  # a folder's CSV of path and a column of 0 and 1 for each label, or one
    # of numbers; the pictures lie anywhere below the folder. '' = a folder for each class
    data.labels = ""  # what a picture has: class | several (labels) | number; '' = as the file says
    data.number = ()  # mean and deviation of the numbers to train on; () = the training split's
    data.synthetic = False  # draw pictures like the data set's, unless dir or folder is given
    data.pipeline = "auto"  # resident: on the device as uint8; streaming: decoded by host threads
    data.classes = ()  # names in label order; () = the data set's own (a folder's: sorted; of a
    # labels_file: its columns, of which this chooses some)
    data.image_size = _any(0)  # pixels per side fed to the network, or two numbers, rows and
    # columns, as in 64,96; 0 = the data set's own
    data.channels = 0  # 1: colour is dropped; 3; 0 = the data set's own
    data.mean = ()  # of pixels in 0..1; () = the data set's own, or of init_from's network
    data.std = ()  # standard deviation, likewise
    data.fit = ""  # to image_size: crop the centre | pad with the mean colour | stretch; '' = crop
    data.crop_share = 0.0  # of the short side, the central part that evaluation looks at (crop);
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
    model.stem_stride = 0  # resnet, se_resnet: 1 | 2 (heads lfi, classwise: 1, a finer map)
    model.head = "lfi"  # plain | lfi | abn | classwise: a map of each class, without FIN
    model.loss = "softmax"  # one class of all; sigmoid: one output for two classes, or one for each
    # of several labels; regression: a number, by its squared error
    model.dtype = "float32"  # of activations; parameters, statistics, softmax and loss stay float32
    model.remat = False  # compute the inside of blocks again: less memory, a third more work
    model.fin = fin = ConfigDict()  # the Feature Importance Network; defaults are the paper's
    fin.kind = "learned"  # without FIN: uniform, every channel weighs the same; tied | prior, the
    # classifier's weights of the classes that a first pass found likely
    fin.width = 0  # channels inside FIN; 0 = as many as the features have
    fin.depth = 4  # convolutions
    fin.kernel = 3
    fin.relu_every = (
        0  # a ReLU after every n-th convolution; 0 = 1 in networks for 224 pixels, else 2
    )
    fin.standardise = False  # True: pooled values of variance 1 over channels, times a learnt gain
    fin.softmax = True  # False: the pooled values divided by their sum
    fin.temperature = 1.0  # of the softmax over channels; low is sharp
    fin.learn_temperature = False  # train it, starting from `temperature`
    fin.normalise_features = True  # scale each channel to [0, 1] before the grey image masks it
    fin.mask_image = True  # False: FIN sees the channels themselves, not the grey image under them
    model.abn = abn = ConfigDict()  # the Attention Branch Network
    abn.loss = "both"  # perception | attention: train one branch, which then gives the prediction
    model.plain = plain = ConfigDict()
    plain.scale = 1.0  # features times a constant, as a gate enlarges them: its control
    model.classwise = classwise = ConfigDict()  # docs/method.md
    classwise.look = "relu"  # leaky: negative evidence counts a tenth in the map; softmax: over
    # space, as CSRA
    classwise.temperature = 1.0  # of softmax; low is sharp
    classwise.detach = False  # True: no gradient passes through the map
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
    optim.no_decay = ""  # parameters without weight decay: likewise, 'head/fin/bn.*'
    optim.multipliers = ""  # of the learning rate: PATTERN=FACTOR, more after spaces; the last that
    # matches counts: 'head/fin/.*=30'
    optim.label_smoothing = 0.0  # towards what knows nothing; of a number: nothing to smooth
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


def _any(value: Any) -> Any:
    """Returns a default whose key takes values of other types, too."""
    return FieldReference(value, object)


def as_json(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as JSON gives it back: tuples become lists."""
    plain: dict[str, Any] = json.loads(config.to_json_best_effort())
    return plain
