"""The networks in torch, written from the papers' equations and independent of the package.

Their modules carry the names that the released LFI-CAM and ABN checkpoints use, so that a
`state_dict()` of these is a file of theirs. `Network(...)(images)` returns a dictionary.
"""

import torch
from torch import nn
from torch.nn import functional as F

COUNTS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class Norm(nn.BatchNorm2d):
    """BatchNorm that remembers how many values its last statistics are made of."""

    def forward(self, x):
        self.values = x.numel() // x.shape[1]
        return super().forward(x)


def conv(inside, outside, kernel=3, stride=1, groups=1):
    return nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)


class Block(nn.Module):
    """Basic block or bottleneck; `names` renames its children to the family's words."""

    def __init__(self, inside, filters, stride, kind="basic", cardinality=1, widen=4, squeeze=0):
        super().__init__()
        names = dict(c1="conv1", b1="bn1", c2="conv2", b2="bn2", c3="conv3", b3="bn3")
        if kind == "resnext":
            names = dict(c1="conv_reduce", b1="bn_reduce", c2="conv_conv", b2="bn",
                         c3="conv_expand", b3="bn_expand")  # fmt: skip
        out = filters if kind == "basic" else 4 * filters
        self.names, self.bottleneck, self.squeeze = names, kind != "basic", squeeze
        if self.bottleneck:
            width = cardinality * out // widen
            self.add(c1=conv(inside, width, 1), b1=Norm(width))
            self.add(c2=conv(width, width, 3, stride, cardinality), b2=Norm(width))
            self.add(c3=conv(width, out, 1), b3=Norm(out))
        else:
            self.add(c1=conv(inside, out, 3, stride), b1=Norm(out), c2=conv(out, out), b2=Norm(out))
        if squeeze:
            self.fc1, self.fc2 = nn.Linear(out, out // squeeze), nn.Linear(out // squeeze, out)
        projection = [conv(inside, out, 1, stride), Norm(out)]
        self.projects = stride != 1 or inside != out
        if self.projects and kind == "resnext":
            self.shortcut = nn.Sequential()
            self.shortcut.add_module("shortcut_conv", projection[0])
            self.shortcut.add_module("shortcut_bn", projection[1])
        elif self.projects:
            self.downsample = nn.Sequential(*projection)

    def add(self, **layers):
        for key, layer in layers.items():
            self.add_module(self.names[key], layer)

    def layer(self, key):
        return getattr(self, self.names[key])

    def forward(self, x):
        y = F.relu(self.layer("b1")(self.layer("c1")(x)))
        y = self.layer("b2")(self.layer("c2")(y))
        if self.bottleneck:
            y = self.layer("b3")(self.layer("c3")(F.relu(y)))
        if self.squeeze:
            gate = torch.sigmoid(self.fc2(F.relu(self.fc1(y.mean((2, 3))))))
            y = y * gate[:, :, None, None]
        if self.projects:
            x = (self.shortcut if hasattr(self, "shortcut") else self.downsample)(x)
        return F.relu(x + y)


class WideBlock(nn.Module):
    def __init__(self, inside, filters, stride):
        super().__init__()
        self.bn1, self.conv1 = Norm(inside), conv(inside, filters, 3, stride)
        self.bn2, self.conv2 = Norm(filters), conv(filters, filters)
        self.convShortcut = conv(inside, filters, 1, stride) if inside != filters else None

    def forward(self, x):
        active = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (x if self.convShortcut is None else self.convShortcut(active))


class DenseLayer(nn.Module):
    def __init__(self, inside, growth):
        super().__init__()
        self.bn1, self.conv1 = Norm(inside), conv(inside, 4 * growth, 1)
        self.bn2, self.conv2 = Norm(4 * growth), conv(4 * growth, growth)

    def forward(self, x):
        y = self.conv1(F.relu(self.bn1(x)))
        return torch.cat([x, self.conv2(F.relu(self.bn2(y)))], 1)


class Transition(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.bn1, self.conv1 = Norm(inside), conv(inside, inside // 2, 1)

    def forward(self, x):
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x))), 2)


class WideStage(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.layer = blocks

    def forward(self, x):
        return self.layer(x)


def residual(inside, filters, count, stride, make=Block, **options):
    first = make(inside, filters, stride, **options)
    basic = make is WideBlock or options.get("kind", "basic") == "basic"
    out = filters if basic else 4 * filters
    rest = [make(out, filters, 1, **options) for _ in range(count - 1)]
    return nn.Sequential(first, *rest), out


class Network(nn.Module):
    """A family and a head; see `build`."""

    def __init__(self, family, depth, head, classes, growth=12, cardinality=8, widen=4):
        super().__init__()
        self.family, self.head = family, head
        getattr(self, f"_{family}")(depth, growth, cardinality, widen)
        if head == "lfi":
            self._fin(self.channels)
        if head == "abn":
            self._abn(self.channels, classes)
        name = "classifier" if family == "cifar_resnext" else "fc"
        setattr(self, name, nn.Linear(self.channels, classes))

    def stages(self, prefix, inside, filters, counts, named=lambda name, stage: stage, **options):
        """Adds all stages, and for ABN the last one again at stride 1."""
        for i, (width, count) in enumerate(zip(filters, counts, strict=True)):
            last = i == len(filters) - 1
            if last and self.head == "abn":
                attention, _ = residual(inside, width, count, 1, **options)
                name = "stage_att" if prefix == "stage_" else f"att_{prefix}{i + 1}"
                setattr(self, name, named(name, attention))
                self.branch_name = name
            stage, inside = residual(inside, width, count, 1 if i == 0 else 2, **options)
            setattr(self, f"{prefix}{i + 1}", named(f"{prefix}{i + 1}", stage))
        self.stage_names = [f"{prefix}{i + 1}" for i in range(len(filters))]
        self.channels = inside

    def _cifar_resnet(self, depth, growth, cardinality, widen):
        self.conv1, self.bn1 = conv(3, 16), Norm(16)
        kind, count = "basic" if depth < 44 else "bottleneck", (depth - 2) // 6
        self.stages("layer", 16, (16, 32, 64), (count,) * 3, kind=kind)

    def _resnet(self, depth, growth, cardinality, widen, squeeze=0):
        stride = 1 if self.head == "lfi" else 2
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, stride, 3, bias=False), Norm(64)
        kind = "basic" if depth < 50 else "bottleneck"
        filters = (64, 128, 256, 512)
        self.stages("layer", 64, filters, COUNTS[depth], kind=kind, squeeze=squeeze)

    def _se_resnet(self, depth, growth, cardinality, widen):
        self._resnet(depth, growth, cardinality, widen, squeeze=16)

    def _cifar_resnext(self, depth, growth, cardinality, widen):
        def named(name, stage):
            blocks = nn.Sequential()
            for i, block in enumerate(stage):
                blocks.add_module(f"{name}_bottleneck_{i}", block)
            return blocks

        self.conv_1_3x3, self.bn_1 = conv(3, 64), Norm(64)
        filters = [16 * widen * 2**i for i in range(3)]
        self.stages("stage_", 64, filters, ((depth - 2) // 9,) * 3, named=named, kind="resnext",
                    cardinality=cardinality, widen=widen)  # fmt: skip

    def _wide_resnet(self, depth, growth, cardinality, widen):
        self.conv1, filters = conv(3, 16), [16 * widen, 32 * widen, 64 * widen]
        counts = ((depth - 4) // 6,) * 3
        self.stages("block", 16, filters, counts, named=lambda n, s: WideStage(s), make=WideBlock)
        self.bn1 = Norm(self.channels)

    def _cifar_densenet(self, depth, growth, cardinality, widen):
        def dense(inside):
            layers = [DenseLayer(inside + i * growth, growth) for i in range((depth - 4) // 6)]
            return nn.Sequential(*layers), inside + len(layers) * growth

        self.conv1, channels = conv(3, 2 * growth), 2 * growth
        for i in (1, 2, 3):
            if i == 3 and self.head == "abn":
                self.att_dense3, self.branch_name = dense(channels)[0], "att_dense3"
            stage, channels = dense(channels)
            setattr(self, f"dense{i}", stage)
            if i < 3:
                setattr(self, f"trans{i}", Transition(channels))
                channels //= 2
        self.stage_names, self.channels = (
            ["dense1", "trans1", "dense2", "trans2", "dense3"],
            channels,
        )
        self.bn = Norm(channels)

    def _fin(self, d):
        layers = [(conv(d, d), Norm(d)) for _ in range(4)]
        if self.family in ("resnet", "se_resnet"):
            for i, (c, b) in enumerate(layers, 1):
                setattr(self, f"att_conv{i}", c)
                setattr(self, f"att_bn{i}", b)
        else:
            first, second = layers[0] + layers[1], layers[2] + layers[3]
            self.attention = nn.Sequential(*first, nn.ReLU(), *second, nn.ReLU())

    def _abn(self, d, k):
        self.bn_att, self.att_conv, self.bn_att2 = Norm(d), conv(d, k, 1), Norm(k)
        self.att_conv2, self.att_conv3, self.bn_att3 = conv(k, k, 1), conv(k, 1), Norm(1)

    def trunk(self, x):
        if self.family in ("cifar_densenet", "wide_resnet"):
            x = self.conv1(x)
        elif self.family == "cifar_resnext":
            x = F.relu(self.bn_1(self.conv_1_3x3(x)))
        else:
            x = F.relu(self.bn1(self.conv1(x)))
        if self.family in ("resnet", "se_resnet"):
            x = F.max_pool2d(x, 3, 2, 1)
        for name in self.stage_names[:-1]:
            x = getattr(self, name)(x)
        return x

    def last_stage(self, x):
        x = getattr(self, self.stage_names[-1])(x)
        return F.relu(self.bn1(x)) if self.family == "wide_resnet" else x

    def classify(self, x):
        x = F.relu(self.bn(x)) if self.family == "cifar_densenet" else x
        return (self.classifier if self.family == "cifar_resnext" else self.fc)(x.mean((2, 3)))

    def importance(self, images, features):
        grey = images.mean(1, keepdim=True)
        grey = F.interpolate(grey, features.shape[2:], mode="bilinear", align_corners=False)
        low, high = features.amin((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)
        flat = high == low
        scaled = (features - low) / torch.where(flat, torch.ones_like(low), high - low)
        scaled = torch.where(flat, torch.ones_like(scaled), scaled)
        x = torch.where(features == 0, torch.zeros_like(scaled), scaled) * grey
        if hasattr(self, "attention"):
            x = self.attention(x)
        else:
            for i in range(1, 5):
                x = F.relu(getattr(self, f"att_bn{i}")(getattr(self, f"att_conv{i}")(x)))
        return torch.softmax(x.mean((2, 3)), 1)

    def forward(self, images):
        x = self.trunk(images)
        if self.head == "plain":
            return {"logits": self.classify(self.last_stage(x))}
        if self.head == "lfi":
            features = self.last_stage(x)
            weight = self.importance(images, features)
            total = F.relu((weight[:, :, None, None] * features).sum(1))
            low, high = total.amin((1, 2), keepdim=True), total.amax((1, 2), keepdim=True)
            span = torch.where(high == low, torch.ones_like(low), high - low)
            attention = torch.where(high == low, total, (total - low) / span)
            logits = self.classify(features * (1 + attention[:, None]))
            return {"logits": logits, "attention": attention, "importance": weight}
        branch = self.bn_att(getattr(self, self.branch_name)(x))
        branch = F.relu(self.bn_att2(self.att_conv(branch)))
        attention = torch.sigmoid(self.bn_att3(self.att_conv3(branch)))
        logits = self.classify(self.last_stage(x * (1 + attention)))
        attention_logits = self.att_conv2(branch).mean((2, 3))
        return {
            "logits": logits,
            "attention": attention[:, 0],
            "attention_logits": attention_logits,
        }


def randomise(network, seed):
    """Gives every weight and statistic a value that is not trivial."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim == 4:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif tensor.ndim:  # small: squeeze-and-excitation gates near 0 or 1 amplify rounding
            tensor.normal_(0, 0.1 if tensor.ndim == 1 else 0.01, generator=generator)
    return network
