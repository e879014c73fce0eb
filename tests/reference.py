"""The equations of the heads in plain numpy loops: slow, obvious, and independent of the package.

LFI-CAM: Lee, Park, Oh, Kwak, ICCV 2021. ABN: Fukui et al., CVPR 2019. Arrays are NHWC, float64.
"""

import math

import numpy as np


def resize(image, size):
    """Bilinear with half-pixel centres and no antialias; `image` is [h, w]."""
    h, w = image.shape
    out = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y = min(max((i + 0.5) * h / size[0] - 0.5, 0), h - 1)
            x = min(max((j + 0.5) * w / size[1] - 0.5, 0), w - 1)
            top, left = math.floor(y), math.floor(x)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            upper = (1 - (x - left)) * image[top, left] + (x - left) * image[top, right]
            lower = (1 - (x - left)) * image[bottom, left] + (x - left) * image[bottom, right]
            out[i, j] = (1 - (y - top)) * upper + (y - top) * lower
    return out


def normalise_channel(channel):
    """To [0, 1]; a constant channel becomes 1; then exact zeros of the input become 0."""
    low, high = channel.min(), channel.max()
    out = np.ones_like(channel) if high == low else (channel - low) / (high - low)
    out[channel == 0] = 0
    return out


def min_max(map_):
    """To [0, 1]; a constant map keeps its values."""
    low, high = map_.min(), map_.max()
    return map_.copy() if high == low else (map_ - low) / (high - low)


def convolve(x, kernel):
    """`x` is [h, w, in], `kernel` [k, k, in, out], zero padding k // 2."""
    k = kernel.shape[0]
    padded = np.pad(x, ((k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    out = np.zeros((*x.shape[:2], kernel.shape[-1]))
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            for o in range(kernel.shape[-1]):
                out[i, j, o] = np.sum(padded[i : i + k, j : j + k] * kernel[..., o])
    return out


def batch_norm(x, params, stats):
    """With running statistics."""
    scale = params["scale"] / np.sqrt(stats["var"] + 1e-5)
    return (x - stats["mean"]) * scale + params["bias"]


def softmax(x):
    exp = np.exp(x - x.max())
    return exp / exp.sum()


def importance(masks, params, stats, relu_every, temperature=1.0):
    """FIN on one image: `masks` is [h, w, d]."""
    x = masks
    for i in range(4):
        x = convolve(x, params[f"conv{i}"]["kernel"])
        x = batch_norm(x, params[f"bn{i}"], stats[f"bn{i}"])
        if (i + 1) % relu_every == 0:
            x = np.maximum(x, 0)
    return softmax(x.mean(axis=(0, 1)) / temperature)


def lfi_head(image, features, params, stats, relu_every=2):
    """One image: returns the importance [d], the map [h, w] and the attended features [h, w, d]."""
    grey = resize(image.mean(axis=-1), features.shape[:2])
    masks = np.zeros_like(features)
    for d in range(features.shape[-1]):
        masks[..., d] = normalise_channel(features[..., d]) * grey
    weight = importance(masks, params, stats, relu_every)
    total = np.zeros(features.shape[:2])
    for d in range(features.shape[-1]):
        total += weight[d] * features[..., d]
    attention = min_max(np.maximum(total, 0))
    return weight, attention, features * (1 + attention[..., None])


def softmaxed(features, kernel, bias):
    """Probabilities of an image's classes without any map."""
    return softmax(features.mean(axis=(0, 1)) @ kernel + bias)


def tied_importance(features, kernel, bias, kind):
    """The importance [d] of `fin.kind` tied and prior: the classifier's weights."""
    share, (channels, classes) = softmaxed(features, kernel, bias), kernel.shape
    weight = np.zeros(channels)
    for c in range(classes):
        weight += (share[c] - (1 / classes if kind == "prior" else 0)) * kernel[:, c]
    return weight + (1 / channels if kind == "prior" else 0)


def classwise_map(evidence, look, temperature):
    """One class: returns its map [h, w]."""
    if look == "softmax":
        shares = np.exp((evidence - evidence.max()) / temperature)
        return evidence.size * shares / shares.sum()
    kept = np.maximum(evidence, 0.1 * evidence if look == "leaky" else 0)
    return np.maximum(min_max(kept), 0)  # a constant map keeps its value, but not a negative one


def classwise_head(features, kernel, bias, look="relu", temperature=1.0):
    """One image: returns the logits [k] and the maps [k, h, w] of the classes."""
    logits, attention = [], []
    for c in range(kernel.shape[1]):
        evidence = np.zeros(features.shape[:2])
        for d in range(features.shape[-1]):
            evidence += kernel[d, c] * features[..., d]
        attention.append(classwise_map(evidence, look, temperature))
        logits.append(bias[c] + ((1 + attention[-1]) * evidence).mean())
    return np.array(logits), np.array(attention)


def abn_branch(features, params, stats):
    """One image, from the features of the attention stage: returns the logits [k] and the map."""
    x = batch_norm(features, params["bn"], stats["bn"])
    x = convolve(x, params["conv_classes"]["kernel"])
    x = np.maximum(batch_norm(x, params["bn_classes"], stats["bn_classes"]), 0)
    score = convolve(x, params["conv_map"]["kernel"])
    score = batch_norm(score, params["bn_map"], stats["bn_map"])[..., 0]
    logits = convolve(x, params["conv_logits"]["kernel"]).mean(axis=(0, 1))
    return logits, 1 / (1 + np.exp(-score))
