"""TPUs that are not here, by name, as devices that programs can be compiled for."""

import math
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import jax

from lficam_jax.errors import UserError, nearest

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """A generation of TPU; the numbers are the data sheet's, of one chip.

    Attributes:
      memory: HBM, in bytes.
      flops: dense peak in bfloat16, FLOP/s.
      bandwidth: of HBM, bytes/s.
      axes: of the network between the chips, 2 or 3.
      cores: that an accelerator type counts for each chip (`v4-8` is four chips).
      config: the compiler's name for two cores working as one device; '' where that is the default.
    """

    memory: int
    flops: float
    bandwidth: float
    axes: int
    cores: int
    config: str = ""


# cloud.google.com/tpu/docs/v4, v5p, v5e, v6e: what each chip has.
CHIPS = {
    "v4": Chip(32 * GIB, 275e12, 1228e9, axes=3, cores=2, config="megacore"),
    "v5e": Chip(16 * GIB, 197e12, 819e9, axes=2, cores=1),
    "v5p": Chip(95 * GIB, 459e12, 2765e9, axes=3, cores=2),
    "v6e": Chip(32 * GIB, 918e12, 1640e9, axes=2, cores=1),
}
ALIASES = {"v5litepod": "v5e", "v5lite": "v5e"}  # of accelerator types
# What a TPU machine would tell the compiler, which else asks the network and complains; and that it
# takes no lock, for it will touch no TPU.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8", "TPU_MIN_LOG_LEVEL": "4", "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Topology:
    """So many chips of one kind.

    Attributes:
      kind: a key of `CHIPS`.
      shape: chips along each axis of their network, such as (2, 4).
    """

    kind: str
    shape: tuple[int, ...]

    @property
    def chip(self) -> Chip:
        """What one of them can do."""
        return CHIPS[self.kind]

    @property
    def chips(self) -> int:
        """How many they are."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.kind}:{'x'.join(map(str, self.shape))}"


def parse(name: str) -> Topology:
    """Reads a topology, `v5e:2x4`, or an accelerator type, `v5litepod-8`.

    An accelerator type of v4 and v5p counts TensorCores, two per chip; others count chips.

    >>> str(parse("v5litepod-8")), str(parse("v4-16")), parse("v5p-8").chips
    ('v5e:2x4', 'v4:2x2x2', 4)

    Raises:
      UserError: if there is no such TPU.
    """
    found = re.fullmatch(r"(\w+)(:[\dx]+|-\d+)", name.lower())
    kind, size = found.groups() if found else (re.split("[:-]", name.lower())[0], "")
    kind = ALIASES.get(kind, kind)
    if kind not in CHIPS:
        raise UserError(f"--topology={name}: {kind!r} is unknown{nearest(kind, [*CHIPS])}")
    if size.startswith("-"):
        return Topology(kind, _shape(name, CHIPS[kind], int(size[1:])))
    numbers = re.findall(r"\d+", size)
    shape = tuple(map(int, numbers))
    whole = all(side in (1, 2) or (side and side % 4 == 0) for side in shape)
    if len(shape) != CHIPS[kind].axes or not whole or f":{'x'.join(numbers)}" != size:
        example = "2x4" if CHIPS[kind].axes == 2 else "2x2x1"
        raise UserError(
            f"--topology={name}: give {CHIPS[kind].axes} sides, each 1, 2 or a multiple of 4, for "
            f"example {kind}:{example}, or an accelerator type such as v5litepod-8"
        )
    return Topology(kind, shape)


def devices(topology: Topology) -> list[jax.Device]:
    """Returns the devices, for programs to be lowered and compiled for, never to be run.

    Raises:
      UserError: if the TPU compiler is not installed, or refuses the shape.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    # As if one machine held all chips: `pmap` takes only those of its own process.
    options: dict[str, Any] = {"chips_per_host_bounds": (*topology.shape, 1)[:3]}
    if topology.chip.config:
        options["chip_config_name"] = topology.chip.config
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=str(topology), **options)
    except Exception as error:  # jaxlib's own, with no base of its own
        if find_spec("libtpu") is None:
            raise UserError(
                "--topology needs the TPU's compiler, which runs on any Linux machine: "
                f"pip install 'jax[tpu]=={jax.__version__}'"
            ) from error
        raise UserError(f"--topology={topology}: {str(error).splitlines()[0]}") from error
    return list(found.devices)


def _shape(name: str, chip: Chip, count: int) -> tuple[int, ...]:
    """Returns the shape of an accelerator type: a power of two, as near to a cube as can be."""
    chips, odd = divmod(count, chip.cores)
    power = chips.bit_length() - 1
    if odd or chips < 1 or chips != 2**power or (chip.axes == 3 and chips < 4):
        least = 4 * chip.cores if chip.axes == 3 else 1
        below = max(least, 2 ** (count.bit_length() - 1)) if count else least
        raise UserError(
            f"--topology={name}: there is no such accelerator type; nearest: "
            f"{name.lower().split('-')[0]}-{below}"
        )
    if chip.axes == 3 and chips == 4:
        return 2, 2, 1
    low, more = divmod(power, chip.axes)
    return tuple(sorted(2 ** (low + (i < more)) for i in range(chip.axes)))
