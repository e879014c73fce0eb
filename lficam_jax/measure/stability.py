"""`--mode stability`: do the maps of models that were trained apart agree?"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from lficam_jax.config import default_config, validate
from lficam_jax.data import normalise
from lficam_jax.data.sample import Sample
from lficam_jax.errors import UserError
from lficam_jax.methods import maps_of
from lficam_jax.metrics import stability
from lficam_jax.metrics.localisation import constant, on_image
from lficam_jax.metrics.pairs import Agreement
from lficam_jax.training.experiment import load_run
from lficam_jax.workdir.remote import fetched
from lficam_jax.workdir.results import write_result
from lficam_jax.workdir.table import aligned

BATCH = 64


def run(
    runs: Sequence[str], workdir: str | Path, *, split: str, limit: int,
    data: ConfigDict | None = None,
) -> int:  # fmt: skip
    """Compares all pairs of runs, prints one table and writes `results/stability.json`.

    Args:
      runs: their workdirs; each brings its own config and its best checkpoint.
      workdir: where the result goes.
      split: whose examples are looked at.
      limit: how many of them, spread evenly.
      data: says where the data lie, if they moved since the runs were trained.

    Raises:
      UserError: for fewer than two runs, a folder that holds none, a model without a map of its
        own, or runs with different test examples.
    """
    if len(set(runs)) < 2:
        raise UserError("stability compares models: give two or more, --runs DIR DIR …")
    found = {path: _maps(path, split, limit, data) for path in runs}
    orders = stability.pair({path: ids for path, (ids, _, _) in found.items()})
    size = next(iter(found.values()))[1].shape[1:]
    sizes = {path: maps.shape[1:] for path, (_, maps, _) in found.items()}
    if set(sizes.values()) != {size}:
        raise UserError(f"the runs look at images of different sizes: {sizes}; give runs of one")
    maps = {path: maps[orders[path]] for path, (_, maps, _) in found.items()}
    agreement = Agreement(maps)
    result = {
        "pairs": agreement.pairs(),
        "statistics": agreement.statistics(),
        "runs": {path: {"constant_maps": degenerate} for path, (_, _, degenerate) in found.items()},
        "split": split,
        "images": len(orders[runs[0]]),
    }
    print(_told(result))  # even where nothing can be written
    print(write_result(workdir, "stability", result))
    return 0


def read_config(path: str | Path, data: ConfigDict | None = None) -> ConfigDict:
    """Returns the config that a run left behind, its data found where `data` says, if given.

    Raises:
      UserError: if the folder holds no run, or one that this version cannot read.
    """
    file, config = Path(path) / "config.json", default_config().lock()
    try:
        config.update(json.loads(file.read_text()))
    except FileNotFoundError as error:
        raise UserError(f"--runs {path} holds no run (no config.json)") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot read {file}: {reason}; is the folder a run's?") from error
    if data is not None:
        config.data.dir = data.dir or config.data.dir
        config.data.folder = data.folder or config.data.folder
    validate(config)
    return config


def _maps(
    path: str, split: str, limit: int, data: ConfigDict | None
) -> tuple[list[int], Float[np.ndarray, "n y x"], int]:
    """Returns ids, the model's own maps at the image's size, and how many are constant."""
    with fetched(path) as here:
        config = read_config(here, data)
        trained = load_run(config, here)
    sample = Sample(trained.config.data, split, limit)
    print(f"{path}: step {trained.step}, {len(sample)} examples of {split}", flush=True)
    model, variables = trained.model, jax.device_put(dict(trained.variables))
    draw = jax.jit(lambda v, pixels: maps_of("own", model, v, normalise(pixels, sample.info)))
    ids, parts, degenerate = [], [], 0
    for batch in sample.batches(BATCH):
        valid = batch["valid"]
        maps = draw(variables, jnp.asarray(batch["image"]))
        if not np.isfinite(maps[valid]).all():
            raise UserError(f"{path}: its maps are not finite; is the network trained?")
        degenerate += int(np.asarray(constant(maps))[valid].sum())
        parts.append(np.asarray(on_image(maps, batch["image"].shape[1:3]))[valid])
        ids += batch["id"][valid].tolist()
    return ids, np.concatenate(parts), degenerate


def _told(result: dict[str, Any]) -> str:
    pairs = len(result["pairs"])
    rows = [["statistic", "value", "chance", "adjusted", "95 %", "n", "left out"]]
    for name, found in result["statistics"].items():
        adjusted = found["adjusted"]
        numbers = _told_numbers(found["value"], found["chance"], adjusted["value"])
        low, high = _told_numbers(adjusted["low"], adjusted["high"])
        rows.append([name, *numbers, f"{low} to {high}", str(found["n"]), str(found["left_out"])])
    constants = sum(run["constant_maps"] for run in result["runs"].values())
    return (
        f"\n{len(result['runs'])} models, {pairs} pair{'s' * (pairs > 1)}, {result['images']} "
        f"images of {result['split']}; constant maps: {constants}\n{aligned(rows)}\n"
        "chance: the images of one model shuffled. adjusted: (value - chance) / (1 - chance), with "
        f"its interval over {'models and ' * (pairs > 1)}images.\n"
        "n: image pairs with a value; left out: both maps empty, or one constant.\n"
        "Only official_rowwise may be set beside the published 0.73, 0.60 and 0.64."
    )


def _told_numbers(*values: float) -> list[str]:
    return ["-" if np.isnan(value) else f"{value:.4f}" for value in values]
