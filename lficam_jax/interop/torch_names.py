"""What torch code calls its modules, in the words of this package.

Known are the released LFI-CAM and ABN networks, torchvision's ResNets, common SE-ResNets, and what
`torch_layouts` holds.
"""

import re
from collections.abc import Collection, Mapping

import numpy as np

from lficam_jax.interop.torch_layouts import numbered

# Inside a block; a name that is not listed is the same here.
BLOCK = {
    "downsample.0": "shortcut_conv", "downsample.1": "shortcut_bn",
    "shortcut.0": "shortcut_conv", "shortcut.1": "shortcut_bn",
    "shortcut.shortcut_conv": "shortcut_conv", "shortcut.shortcut_bn": "shortcut_bn",  # ResNeXt
    "conv_reduce": "conv1", "conv_conv": "conv2", "conv_expand": "conv3",
    "bn_reduce": "bn1", "bn": "bn2", "bn_expand": "bn3",
    "convShortcut": "shortcut_conv",  # wide ResNet
    "fc1": "se/fc1", "fc2": "se/fc2",  # squeeze and excitation
    "se.fc1": "se/fc1", "se.fc2": "se/fc2", "se.fc.0": "se/fc1", "se.fc.2": "se/fc2",
    "se_module.fc1": "se/fc1", "se_module.fc2": "se/fc2",
}  # fmt: skip
TOP = {
    "conv1": "trunk/stem/conv", "conv_1_3x3": "trunk/stem/conv", "bn_1": "trunk/stem/bn",
    "trans1.bn1": "trunk/transition1/bn", "trans1.conv1": "trunk/transition1/conv",
    "trans2.bn1": "trunk/transition2/bn", "trans2.conv1": "trunk/transition2/conv",
    "bn": "final/bn",
}  # fmt: skip
ABN = {
    "bn_att": "head/bn", "att_conv": "head/conv_classes", "bn_att2": "head/bn_classes",
    "att_conv2": "head/conv_logits", "att_conv3": "head/conv_map", "bn_att3": "head/bn_map",
}  # fmt: skip

# What DataParallel, torch.compile and training frameworks put in front of every name.
_WRAPPERS = re.compile(r"(?:(?:module|_orig_mod|model|backbone)\.)+")
_STAGE = re.compile(
    r"(?:layer|dense|block|stage_)(\d)\.(?:layer\.|stage_\d_bottleneck_)?(\d+)\.(.+)"
)
_BRANCH = re.compile(
    r"(?:att_(?:layer|dense|block)\d\.(?:layer\.)?|stage_att\.stage_att_bottleneck_)(\d+)\.(.+)"
)
_CLASSIFIER = re.compile(r"(?:fc|classifier|linear)(?:\.\d+)?")  # .0 and .1: inside a Sequential
_FIN = re.compile(r"att_(conv|bn)(\d)")
_FIN_SEQUENCE = re.compile(r"attention\.(\d+)")


def unwrapped(
    state: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Takes `module.`, `_orig_mod.`, `model.` and `backbone.` off the names, in any order.

    No network that is known here has names that begin so. Where two names would become one, the
    second stays as it is, and so fits nothing.

    Returns:
      The arrays by their own names, and what was taken off.
    """
    found: dict[str, np.ndarray] = {}
    taken: dict[str, None] = {}
    for name, array in state.items():
        match = _WRAPPERS.match(name)
        own = name[match.end() :] if match else name
        if match and own not in found:
            taken[match[0]] = None
        found[name if own in found else own] = array
    return found, tuple(taken)


def translate(state: Mapping[str, np.ndarray], modules: Collection[str]) -> dict[str, str | None]:
    """Maps each torch module name in `state` to ours, such as `trunk/stage1/block0/conv1`.

    Args:
      state: torch parameter names, as `unwrapped` gives them, to arrays.
      modules: paths of the modules that the model has: they tell what `bn1`, `att_conv2` or the
        last stage mean.

    Returns:
      {torch module: our module, or None where no rule knows the name}.
    """
    trunk_stages = len({path.split("/")[1] for path in modules if path.startswith("trunk/stage")})
    table = dict(TOP)
    table["bn1"] = "trunk/stem/bn" if "trunk/stem/bn" in modules else "final/bn"
    # LFI-CAM's 224-pixel networks and ABN both have an att_conv2 and an att_conv3.
    fin = "head/fin/conv0" in modules
    table |= {name: path for name, path in ABN.items() if not (fin and _FIN.fullmatch(name))}
    table |= _fin_sequence(state)
    names = dict.fromkeys(name.rpartition(".")[0] for name in state)
    table |= numbered(names, modules)
    return {name: table.get(name) or _by_pattern(name, trunk_stages) for name in names}


def _by_pattern(name: str, trunk_stages: int) -> str | None:
    if match := _STAGE.fullmatch(name):
        number, block, inner = match.groups()
        stage = f"trunk/stage{number}" if int(number) <= trunk_stages else f"stage{number}"
        stage = "last_stage" if int(number) == trunk_stages + 1 else stage
        return f"{stage}/block{block}/{BLOCK.get(inner, inner)}"
    if match := _BRANCH.fullmatch(name):
        block, inner = match.groups()
        return f"head/attention_stage/block{block}/{BLOCK.get(inner, inner)}"
    if match := _FIN.fullmatch(name):
        kind, number = match.groups()
        return f"head/fin/{kind}{int(number) - 1}"
    return "classifier" if _CLASSIFIER.fullmatch(name) else None


def _fin_sequence(state: Mapping[str, np.ndarray]) -> dict[str, str]:
    """FIN as one Sequential: convolutions and BatchNorms count in order; ReLUs leave gaps."""
    weights = {
        int(match[1]): state[f"{name}.weight"].ndim
        for name in dict.fromkeys(full.rpartition(".")[0] for full in state)
        if (match := _FIN_SEQUENCE.fullmatch(name)) and f"{name}.weight" in state
    }
    table: dict[str, str] = {}
    for kind, ndim in (("conv", 4), ("bn", 1)):
        numbers = sorted(number for number, dims in weights.items() if dims == ndim)
        table |= {f"attention.{n}": f"head/fin/{kind}{i}" for i, n in enumerate(numbers)}
    return table
