"""A straightforward PyTorch implementation of ResNets with the LFI-CAM head, to compare speed with.

Written from the equations in docs/models.md; nothing is tuned beyond what a PyTorch user would do.
"""

import torch
from torch import nn
from torch.nn import functional as F

COUNTS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def conv(inside: int, outside: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution padded by kernel // 2, without bias."""
    return nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
    """A basic block or a bottleneck, with a projection where the shape changes."""

    def __init__(self, inside: int, filters: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.out = 4 * filters if bottleneck else filters
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        widths = (inside, filters, filters, self.out) if bottleneck else (inside, filters, self.out)
        layers: list[nn.Module] = []
        for i, kernel in enumerate(kernels):
            strided = stride if i == len(kernels) - 2 else 1  # the 3x3 of a bottleneck, the first
            layers += [conv(widths[i], widths[i + 1], kernel, strided)]
            layers += [nn.BatchNorm2d(widths[i + 1]), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Identity()
        if stride != 1 or inside != self.out:
            projection = conv(inside, self.out, 1, stride)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(self.out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the block's output."""
        return F.relu(self.body(x) + self.shortcut(x))


class LFINetwork(nn.Module):
    """A ResNet whose features are gated by the map that FIN draws; returns logits and map.

    Args:
      depth: 18, 34, 50 with `small=False`, else 6n + 2 (bottlenecks from 44, as the released code).
      small: the network for 32-pixel images, three stages of 16 to 64 channels.
      classes: number of logits.
    """

    def __init__(self, depth: int, small: bool, classes: int) -> None:
        super().__init__()
        counts = ((depth - 2) // 6,) * 3 if small else COUNTS[depth]
        filters, bottleneck = (
            ((16, 32, 64), depth >= 44) if small else ((64, 128, 256, 512), depth >= 50)
        )
        width = filters[0]
        stem = [conv(3, width, 3 if small else 7), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers = stem if small else [*stem, nn.MaxPool2d(3, 2, 1)]
        for i, (count, channels) in enumerate(zip(counts, filters, strict=True)):
            for j in range(count):
                layers.append(Block(width, channels, 2 if i and not j else 1, bottleneck))
                width = layers[-1].out
        self.features = nn.Sequential(*layers)
        fin: list[nn.Module] = []
        for i in range(1, 5):
            fin += [conv(width, width), nn.BatchNorm2d(width)]
            fin += [nn.ReLU(inplace=True)] if i % (2 if small else 1) == 0 else []
        self.fin = nn.Sequential(*fin)
        self.classifier = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits `[b k]` and the map `[b h w]` of images `[b 3 y x]`."""
        features = self.features(images)
        importance = self.fin(self.masks(images, features)).mean((2, 3), dtype=torch.float32)
        weights = torch.softmax(importance, 1)[:, :, None, None]
        attention = scale(F.relu((weights * features.float()).sum(1)), (1, 2))
        attended = (1 + attention[:, None]) * features
        return self.classifier(attended.mean((2, 3))), attention

    def masks(self, images: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Returns the features, scaled to [0, 1] channel by channel, times the small grey image."""
        grey = images.mean(1, keepdim=True)
        grey = F.interpolate(grey, features.shape[2:], mode="bilinear", align_corners=False)
        return torch.where(features == 0, 0, scale(features, (2, 3))) * grey


def scale(x: torch.Tensor, axes: tuple[int, int]) -> torch.Tensor:
    """Scales to [0, 1] over `axes`; what is constant becomes 0 in a map and is not looked at."""
    low, high = x.amin(axes, keepdim=True), x.amax(axes, keepdim=True)
    return (x - low) / (high - low).clamp_min(1e-12)
