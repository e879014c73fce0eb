"""`lficam stability`: do the maps of models that were trained apart agree?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from lficam_jax.data import normalise
from lficam_jax.data.sample import Sample
from lficam_jax.errors import UserError
from lficam_jax.explaining import report
from lficam_jax.explaining.explanation import Explanation
from lficam_jax.explaining.figure import pair_squares
from lficam_jax.methods import maps_of
from lficam_jax.metrics import stability
from lficam_jax.metrics.localisation import constant, on_image
from lficam_jax.metrics.pairs import Agreement
from lficam_jax.models.answers import kind_of, told
from lficam_jax.models.classifier import predict
from lficam_jax.models.geometry import places
from lficam_jax.structs import Variables
from lficam_jax.training.experiment import load_run
from lficam_jax.workdir.folder import read_config
from lficam_jax.workdir.origin import told_origin
from lficam_jax.workdir.remote import fetched
from lficam_jax.workdir.results import write_file, write_result
from lficam_jax.workdir.table import aligned

BATCH = 64
SHOWN = 16  # images on the page


@dataclass(frozen=True)
class Look:
    """What one run says of the sample.

    Attributes:
      ids: of the examples.
      classes: class names, in label order.
      maps: the model's own, at the image's size.
      probabilities: of every class.
      constant: how many of its maps are.
      shown: `id image label`, and `mask` where known, of some examples, spread evenly.
      kind: what the network answers, of `models.answers.kind_of`.
      fit: how its pictures were fitted to the image.
    """

    ids: list[int]
    classes: tuple[str, ...]
    maps: Float[np.ndarray, "n y x"]
    probabilities: Float[np.ndarray, "n k"]
    constant: int
    shown: list[dict[str, np.ndarray]]
    kind: str = "class"
    fit: str = "crop"


def run(
    runs: Sequence[str], workdir: str | Path, *, split: str, limit: int,
    data: ConfigDict | None = None, align: str = "centres",
) -> int:  # fmt: skip
    """Compares all pairs of runs, prints one table, writes `results/stability.{json,png,html}`.

    The picture shows how well each two runs agree; the page that, too, and some images with the
    maps of all runs side by side.

    Args:
      runs: their workdirs; each brings its own config and its best checkpoint.
      workdir: where the result goes.
      split: whose examples are looked at.
      limit: how many of them, spread evenly.
      data: says where the data lie, if they moved since the runs were trained, and how pictures
        are fitted (`fit`), if the runs differ in it.
      align: where the maps of all runs lie on the image, `centres` or `half_pixel`.

    Raises:
      UserError: for fewer than two runs, a folder that holds none, a model without a map of its
        own, or runs with different test examples or differently fitted pictures.
    """
    if len(set(runs)) < 2:
        raise UserError("stability compares models: give two or more, --runs DIR DIR …")
    looks = {path: _look(path, split, limit, data, align) for path in runs}
    orders = stability.pair({path: look.ids for path, look in looks.items()})
    sizes = {path: look.maps.shape[1:] for path, look in looks.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(f"the runs look at images of different sizes: {sizes}; give runs of one")
    fits = {path: look.fit for path, look in looks.items()}
    if len(set(fits.values())) > 1:
        raise UserError(
            "the runs fit pictures to the image differently, so their maps lie differently: "
            f"{fits}; choose one way for all: --config.data.fit={fits[runs[0]]}"
        )
    agreement = Agreement({path: look.maps[orders[path]] for path, look in looks.items()})
    result = {
        "pairs": agreement.pairs(),
        "statistics": agreement.statistics(),
        "runs": {path: {"constant_maps": look.constant} for path, look in looks.items()},
        "split": split,
        "align": align,
        "images": len(orders[runs[0]]),
    }
    print(_told(result))  # even where nothing can be written
    written, names = write_result(workdir, "stability", result), short_names(list(looks))
    squares = for_page(result, names)
    pair_squares(squares["statistics"], squares["runs"], written.with_suffix(".png"))
    html = report.page(
        explanations(looks, names), title="Maps of several runs", pairs=squares,
        details={
            **{k: result[k] for k in ("split", "images", "align")}, "runs": ", ".join(looks),
            "prediction": "the mean of the runs", "made": told_origin(),
        },
    )  # fmt: skip
    page = write_file(written.with_suffix(".html"), html)
    print(f"{written}, .png\npage  {page}")
    return 0


def short_names(runs: Sequence[str]) -> list[str]:
    """Returns what tells the runs apart: their paths without what all have in front.

    >>> short_names(["runs/lfi/seed0", "runs/lfi/seed1/"]), short_names(["a", "b/c"])
    (['seed0', 'seed1'], ['a', 'b/c'])
    """
    parts = [run.rstrip("/").split("/") for run in runs]
    same = 0
    while all(len(each) > same + 1 for each in parts) and len({each[same] for each in parts}) == 1:
        same += 1
    return ["/".join(each[same:]) for each in parts]


def for_page(result: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Returns the agreement of each two runs as `report.page` and the picture lay it out.

    Args:
      result: what `results/stability.json` says.
      names: of its runs, in their order.

    Returns:
      `runs`: the names; `statistics`: of each its `name`, mean `value`, `chance` and `adjusted`,
      and `squares`: a row for each run with a cell for each, None for the run itself.
    """
    paths, pairs = list(result["runs"]), result["pairs"]

    def cell(a: str, b: str, name: str) -> dict[str, float] | None:
        pair = pairs.get(f"{a} | {b}") or pairs.get(f"{b} | {a}")
        return pair and {key: pair[name][key] for key in ("value", "chance", "adjusted")}

    return {
        "runs": list(names),
        "statistics": [
            {
                "name": name, **{key: found[key] for key in ("value", "chance", "adjusted")},
                "squares": [[cell(a, b, name) for b in paths] for a in paths],
            }
            for name, found in result["statistics"].items()
        ],
    }  # fmt: skip


def explanations(looks: Mapping[str, Look], names: Sequence[str]) -> list[Explanation]:
    """Returns some images with the maps of all runs, those of one image together.

    The prediction is that of the mean over the runs that know the classes of the first.
    """
    first, *_ = looks.values()
    found = []
    for row in first.shown:
        place = {path: look.ids.index(int(row["id"])) for path, look in looks.items()}
        share = [
            look.probabilities[place[path]] for path, look in looks.items()
            if (look.classes, look.kind) == (first.classes, first.kind)
        ]  # fmt: skip
        found += [
            Explanation(
                id=str(row["id"]), name=str(row["name"]), picture=row["image"],
                map=look.maps[place[path]], probabilities=np.mean(share, axis=0),
                classes=first.classes, label=row["label"], kind=first.kind, mask=row.get("mask"),
                method=name,
            )
            for (path, look), name in zip(looks.items(), names, strict=True)
        ]  # fmt: skip
    return found


def _look(path: str, split: str, limit: int, data: ConfigDict | None, align: str) -> Look:
    with fetched(path) as here:
        config = read_config(here, data)
        trained = load_run(config, here)
    sample = Sample(trained.config.data, split, limit)
    print(f"{path}: step {trained.step}, {len(sample)} examples of {split}", flush=True)
    model, variables = trained.model, jax.device_put(dict(trained.variables))

    @jax.jit
    def draw(variables: Variables, pixels: Array) -> tuple[Array, Array]:
        images = normalise(pixels, sample.info)
        logits = predict(model, variables, images).logits
        return maps_of("own", model, variables, images), told(kind_of(model), logits)

    ids: list[int] = []
    parts, shares, shown = [], [], []
    degenerate = 0
    count = min(SHOWN, len(sample))
    chosen = {i * len(sample) // count for i in range(count)}
    for batch in sample.batches(BATCH):
        valid = batch["valid"]
        maps, share = draw(variables, jnp.asarray(batch["image"]))
        if not np.isfinite(maps[valid]).all():
            raise UserError(f"{path}: its maps are not finite; is the network trained?")
        degenerate += int(np.asarray(constant(maps))[valid].sum())
        size = batch["image"].shape[1:3]
        place = places(model, size, align).get(maps.shape[1:])
        parts.append(np.asarray(on_image(maps, size, place))[valid])
        shares.append(np.asarray(share)[valid])
        kept = [i for i in range(int(valid.sum())) if len(ids) + i in chosen]
        shown += [{n: rows[i] for n, rows in batch.items() if n != "valid"} for i in kept]
        ids += batch["id"][valid].tolist()
    maps, share = np.concatenate(parts), np.concatenate(shares)
    kind, fit = kind_of(model), sample.info.fit
    return Look(ids, tuple(sample.classes), maps, share, degenerate, shown, kind, fit)


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
