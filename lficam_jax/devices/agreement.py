"""What all processes of a run must have in common, compared before the first step."""

import zlib

import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from lficam_jax.data import dataset_info, open_source
from lficam_jax.data.images import DamagedImage
from lficam_jax.devices import distributed
from lficam_jax.workdir.folder import among, as_json

OWN = ("data.dir", "data.folder", "data.threads")  # keys that may differ from host to host


def check(config: ConfigDict, *splits: str) -> None:
    """Compares configuration and data sets over all processes.

    Args:
      config: of the run; where the data lie may differ from host to host.
      splits: those that are about to be read.

    Raises:
      UserError: in every process, naming what differs and where; or what one could not read.
    """
    data = distributed.together(lambda: {s: fingerprint(config, s) for s in splits})
    leaves = flatten_dict(as_json(config), sep=".")
    told = {f"config.{key}": value for key, value in leaves.items() if not among(key, OWN)}
    distributed.agree({**told, **{f"data, split {s}": text for s, text in data.items()}})


def fingerprint(config: ConfigDict, split: str) -> str:
    """Tells one content of a split from another, by its size and its first and last example."""
    source, info = open_source(config.data, split), dataset_info(config.data)
    crc = 0
    for place in (0, len(source) - 1):
        try:
            example = source[place]
        except DamagedImage as error:  # whether that may be is for the pipeline to say
            example = {"damaged": np.frombuffer(error.name.encode(), np.uint8)}
        for name in sorted(example):
            crc = zlib.crc32(np.ascontiguousarray(example[name]).tobytes(), crc)
    return f"{len(source)} examples of {info.name}, CRC {crc:08x}"
