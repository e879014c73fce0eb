"""Names of torch networks that number their layers through, in the words of this package.

EfficientNet-Lite as efficientnet_lite_pytorch names it, and of torchvision MobileNetV2, DenseNet,
VGG and ConvNeXt. Each function maps the names of one family; what it does not know, it leaves out.
"""

import re
from collections.abc import Collection, Iterator

_STAGED = re.compile(r"((?:trunk/stage|last_stage/stage|last_stage/)(\d*)/?(?:block|conv)(\d+))")
_LITE = {
    "_conv_stem": "trunk/stem/conv", "_bn0": "trunk/stem/bn",
    "_conv_head": "last_stage/features/conv", "_bn1": "last_stage/features/bn",
    "_fc": "classifier",
}  # fmt: skip
_LITE_BLOCK = {
    "_expand_conv": "expand", "_bn0": "expand_bn", "_depthwise_conv": "depthwise",
    "_bn1": "depthwise_bn", "_project_conv": "project", "_bn2": "project_bn",
}  # fmt: skip
_MOBILENET_BLOCK = {
    "conv.0.0": "expand", "conv.0.1": "expand_bn", "conv.1.0": "depthwise",
    "conv.1.1": "depthwise_bn", "conv.2": "project", "conv.3": "project_bn",
}  # fmt: skip
_MOBILENET_FIRST = {  # which does not expand
    "conv.0.0": "depthwise",
    "conv.0.1": "depthwise_bn",
    "conv.1": "project",
    "conv.2": "project_bn",
}
_DENSENET = {
    "features.conv0": "trunk/stem/conv", "features.norm0": "trunk/stem/bn",
    "features.norm5": "final/bn",
}  # fmt: skip
_VGG = {"classifier.0": "final/fc1", "classifier.3": "final/fc2", "classifier.6": "classifier"}
_CONVNEXT = {
    "features.0.0": "trunk/stem", "features.0.1": "trunk/stem_norm",
    "classifier.0": "final/norm", "classifier.2": "classifier",
}  # fmt: skip
_CONVNEXT_BLOCK = {
    "block.0": "/depthwise",
    "block.2": "/norm",
    "block.3": "/fc1",
    "block.5": "/fc2",
    "": "",
}


def numbered(names: Collection[str], modules: Collection[str]) -> dict[str, str]:
    """Maps the names of a network whose layers are numbered through; others have none here.

    Args:
      names: of torch modules, such as `_blocks.3._bn1`.
      modules: paths of the modules that our model has.
    """
    if "_conv_stem" in names:
        return _efficientnet_lite(names, modules)
    if "features.conv0" in names:
        return _densenet(names, modules)
    if "features.1.conv.0.0" in names:
        return _mobilenet(names, modules)
    if "features.1.0" in names:
        return _convnext(names, modules)
    return _vgg(names, modules) if "features.2" in names else {}


def _efficientnet_lite(names: Collection[str], modules: Collection[str]) -> dict[str, str]:
    blocks, table = _in_order(modules), dict(_LITE)
    for name, number, inside in _matches(r"_blocks\.(\d+)\.(.+)", names):
        if int(number) < len(blocks) and inside in _LITE_BLOCK:
            table[name] = f"{blocks[int(number)]}/{_LITE_BLOCK[inside]}"
    return table


def _mobilenet(names: Collection[str], modules: Collection[str]) -> dict[str, str]:
    blocks = _in_order(modules)
    table = {"features.0.0": "trunk/stem/conv", "features.0.1": "trunk/stem/bn"}
    for kind, ours in (("0", "conv"), ("1", "bn")):
        table[f"features.{len(blocks) + 1}.{kind}"] = f"last_stage/features/{ours}"
    for name, number, inside in _matches(r"features\.(\d+)\.(conv\..+)", names):
        parts = _MOBILENET_FIRST if number == "1" else _MOBILENET_BLOCK
        if int(number) <= len(blocks) and inside in parts:
            table[name] = f"{blocks[int(number) - 1]}/{parts[inside]}"
    return table


def _densenet(names: Collection[str], modules: Collection[str]) -> dict[str, str]:
    table = dict(_DENSENET)
    # The published files write norm.1 and conv.1, torchvision itself norm1 and conv1.
    pattern = r"features\.denseblock(\d)\.denselayer(\d+)\.(norm|conv)\.?(\d)"
    for name, stage, layer, kind, number in _matches(pattern, names):
        inside = f"block{int(layer) - 1}/{'bn' if kind == 'norm' else 'conv'}{number}"
        table[name] = f"{_stage(stage, modules)}/{inside}"
    for name, stage, kind in _matches(r"features\.transition(\d)\.(norm|conv)", names):
        table[name] = f"trunk/transition{stage}/{'bn' if kind == 'norm' else 'conv'}"
    return table


def _vgg(names: Collection[str], modules: Collection[str]) -> dict[str, str]:
    theirs = sorted(int(number) for _, number in _matches(r"features\.(\d+)", names))
    pairs = zip(theirs, _in_order(modules), strict=False)  # what is left over fits nothing
    return _VGG | {f"features.{number}": path for number, path in pairs}


def _convnext(names: Collection[str], modules: Collection[str]) -> dict[str, str]:
    """Even numbers halve the map, odd ones are stages; 0 is the stem."""
    table = dict(_CONVNEXT)
    for name, number, block, inside in _matches(r"features\.(\d)\.(\d+)\.?(.*)", names):
        stage = _stage(str((int(number) + 1) // 2), modules)
        if int(number) % 2 and inside in _CONVNEXT_BLOCK:
            table[name] = f"{stage}/block{block}{_CONVNEXT_BLOCK[inside]}"
        elif int(number) and not inside:
            stage = _stage(str(int(number) // 2 + 1), modules)
            table[name] = f"{stage}/{'down_norm' if block == '0' else 'down'}"
    return table


def _stage(number: str, modules: Collection[str]) -> str:
    path = f"trunk/stage{number}"
    return path if any(module.startswith(f"{path}/") for module in modules) else "last_stage"


def _in_order(modules: Collection[str]) -> list[str]:
    """Returns the paths of our blocks, or of the convolutions of plain stages, first to last."""
    found = {match[1]: (int(match[2] or 99), int(match[3]))
             for match in map(_STAGED.match, modules) if match}  # fmt: skip
    return sorted(found, key=lambda path: found[path])


def _matches(pattern: str, names: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Yields each name that fits in full, and its groups."""
    for name in names:
        if match := re.fullmatch(pattern, name):
            yield (name, *match.groups())
