"""Names of torch networks that number their blocks through, from the first to the last stage."""

import re
from collections.abc import Collection, Mapping

_BLOCK = re.compile(r"((?:trunk|last_stage)/stage(\d+)/block(\d+))/.+")
_EFFICIENTNET = {  # as efficientnet_lite_pytorch writes them
    "_conv_stem": "trunk/stem/conv", "_bn0": "trunk/stem/bn",
    "_conv_head": "last_stage/features/conv", "_bn1": "last_stage/features/bn",
    "_fc": "classifier",
}  # fmt: skip
_EFFICIENTNET_BLOCK = {
    "_expand_conv": "expand", "_bn0": "expand_bn", "_depthwise_conv": "depthwise",
    "_bn1": "depthwise_bn", "_project_conv": "project", "_bn2": "project_bn",
}  # fmt: skip


def numbered(names: Collection[str], modules: Collection[str]) -> dict[str, str]:
    """Maps the names of a network whose blocks are numbered through; others have none here.

    Args:
      names: of torch modules, such as `_blocks.3._bn1`.
      modules: paths of the modules that our model has.
    """
    if "_conv_stem" in names:
        return _EFFICIENTNET | _blocks(names, modules, r"_blocks\.(\d+)\.(.+)", _EFFICIENTNET_BLOCK)
    return {}


def _blocks(
    names: Collection[str], modules: Collection[str], pattern: str, inside: Mapping[str, str]
) -> dict[str, str]:
    """Maps names of `pattern`, the number of a block and what is inside it."""
    places = {match[1]: (int(match[2]), int(match[3])) for match in map(_BLOCK.match, modules)
              if match}  # fmt: skip
    blocks = dict(enumerate(sorted(places, key=lambda path: places[path])))
    found = ((name, re.fullmatch(pattern, name)) for name in names)
    return {
        name: f"{blocks[int(match[1])]}/{inside[match[2]]}"
        for name, match in found
        if match and int(match[1]) in blocks and match[2] in inside
    }
