"""ImageNet's usual networks in torch, written from their papers; torchvision's and
efficientnet_lite_pytorch's names, so that a `state_dict()` of these is a file of theirs.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


def conv_norm(inside, out, kernel=3, stride=1, groups=1, activate=True):
    padding = (kernel - 1) // 2
    layers = [nn.Conv2d(inside, out, kernel, stride, padding, groups=groups, bias=False)]
    layers += [nn.BatchNorm2d(out), *([nn.ReLU6()] if activate else [])]
    return nn.Sequential(*layers)


class Bottleneck(nn.Module):
    def __init__(self, inside, filters, stride, groups, width):
        super().__init__()
        inner, out = width * filters * groups // 64, 4 * filters  # `width` per group
        self.conv1, self.bn1 = nn.Conv2d(inside, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or inside != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Of bottlenecks: ResNet, ResNeXt and Wide-ResNet, told apart as torchvision does."""

    def __init__(self, counts, groups=1, width=64, classes=1000):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inside = 64
        for i, count in enumerate(counts):
            blocks, filters = [], 64 * 2**i
            for j in range(count):
                stride = 2 if i and not j else 1
                blocks.append(Bottleneck(inside, filters, stride, groups, width))
                inside = 4 * filters
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inside, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class Inverted(nn.Module):
    def __init__(self, inside, out, stride, expand):
        super().__init__()
        inner, self.adds = expand * inside, stride == 1 and inside == out
        layers = [conv_norm(inside, inner, 1)] if expand != 1 else []
        layers += [conv_norm(inner, inner, 3, stride, inner)]
        self.conv = nn.Sequential(*layers, *conv_norm(inner, out, 1, activate=False))

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip

    def __init__(self, classes=1000):
        super().__init__()
        layers, inside = [conv_norm(3, 32, 3, 2)], 32
        for expand, out, count, stride in self.ROWS:
            for j in range(count):
                layers.append(Inverted(inside, out, stride if j == 0 else 1, expand))
                inside = out
        self.features = nn.Sequential(*layers, conv_norm(inside, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class DenseLayer(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inside), nn.Conv2d(inside, 128, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(128), nn.Conv2d(128, 32, 3, 1, 1, bias=False)

    def forward(self, x):
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], 1)


class DenseNet(nn.Module):
    def __init__(self, counts=(6, 12, 24, 16), classes=1000):
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, 64, 7, 2, 3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(64))
        self.features.add_module("relu0", nn.ReLU())
        self.features.add_module("pool0", nn.MaxPool2d(3, 2, 1))
        channels = 64
        for i, count in enumerate(counts, 1):
            block = nn.Sequential()
            for j in range(count):
                block.add_module(f"denselayer{j + 1}", DenseLayer(channels + 32 * j))
            self.features.add_module(f"denseblock{i}", block)
            channels += 32 * count
            if i < len(counts):
                half = nn.Sequential()
                half.add_module("norm", nn.BatchNorm2d(channels))
                half.add_module("relu", nn.ReLU())
                half.add_module("conv", nn.Conv2d(channels, channels // 2, 1, bias=False))
                half.add_module("pool", nn.AvgPool2d(2, 2))
                self.features.add_module(f"transition{i}", half)
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        return self.classifier(F.relu(self.features(x)).mean((2, 3)))


class VGG(nn.Module):
    def __init__(self, counts=(2, 2, 3, 3, 3), classes=1000):
        super().__init__()
        layers, inside = [], 3
        for filters, count in zip((64, 128, 256, 512, 512), counts, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(inside, filters, 3, padding=1), nn.ReLU()]
                inside = filters
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
            nn.Dropout(), nn.Linear(4096, classes),
        )  # fmt: skip

    def forward(self, x):
        x = F.adaptive_avg_pool2d(self.features(x), 7)
        return self.classifier(x.flatten(1))


class ChannelNorm(nn.LayerNorm):
    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, 1e-6).permute(0, 3, 1, 2)


class Permute(nn.Module):
    def __init__(self, *order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x.permute(*self.order)


class ConvNeXtBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width), Permute(0, 2, 3, 1),
            nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 4 * width), nn.GELU(),
            nn.Linear(4 * width, width), Permute(0, 3, 1, 2),
        )  # fmt: skip
        self.layer_scale = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, x):
        return x + self.layer_scale * self.block(x)


class ConvNeXt(nn.Module):
    def __init__(self, counts=(3, 3, 9, 3), widths=(96, 192, 384, 768), classes=1000):
        super().__init__()
        layers = [nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), ChannelNorm(widths[0]))]
        for i, (count, width) in enumerate(zip(counts, widths, strict=True)):
            if i:
                before = widths[i - 1]
                layers.append(
                    nn.Sequential(ChannelNorm(before), nn.Conv2d(before, width, 2, 2))
                )  # fmt: skip
            layers.append(nn.Sequential(*(ConvNeXtBlock(width) for _ in range(count))))
        self.features, last = nn.Sequential(*layers), widths[-1]
        self.classifier = nn.Sequential(ChannelNorm(last), nn.Flatten(1), nn.Linear(last, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3), keepdim=True))


class Same(nn.Conv2d):
    """TensorFlow's padding: the odd pixel lies to the lower right."""

    def forward(self, x):
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


class LiteBlock(nn.Module):
    def __init__(self, inside, out, stride, expand, kernel):
        super().__init__()
        inner, self.expands = expand * inside, expand != 1
        self.adds = stride == 1 and inside == out
        if self.expands:
            self._expand_conv = Same(inside, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = Same(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = Same(inner, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x):
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite(nn.Module):
    """Rows: expand, channels, blocks, stride, kernel; the defaults are Lite0's."""

    LITE0 = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
             (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip
    LITE2 = ((1, 16, 1, 1, 3), (6, 24, 3, 2, 3), (6, 48, 3, 2, 5), (6, 88, 4, 2, 3),
             (6, 120, 4, 1, 5), (6, 208, 5, 2, 5), (6, 352, 1, 1, 3))  # fmt: skip

    def __init__(self, rows=LITE0, classes=1000):
        super().__init__()
        self._conv_stem = Same(3, 32, 3, 2, bias=False)
        self._bn0, inside = nn.BatchNorm2d(32, eps=1e-3), 32
        blocks = []
        for expand, out, count, stride, kernel in rows:
            for j in range(count):
                blocks.append(LiteBlock(inside, out, stride if j == 0 else 1, expand, kernel))
                inside = out
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = Same(inside, 1280, 1, bias=False)
        self._bn1, self._fc = nn.BatchNorm2d(1280, eps=1e-3), nn.Linear(1280, classes)

    def forward(self, x):
        x = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))
        return self._fc(F.relu6(self._bn1(self._conv_head(x))).mean((2, 3)))
