"""`lficam faithfulness`: every map beside every other on the same network, measured, streaming."""

import shutil
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from lficam_jax.data import Dataset, Preprocess, normalise
from lficam_jax.devices.parallel import over_rows
from lficam_jax.errors import UserError, check_word
from lficam_jax.explaining import report
from lficam_jax.explaining.session import Session, closing
from lficam_jax.measure.scoreboard import GROUPS, Rows, for_page, summarise, table, write_csv
from lficam_jax.measure.watchers import Gallery, Table, Watcher
from lficam_jax.methods import maps_of, place_of
from lficam_jax.metrics import faithfulness as measures
from lficam_jax.metrics import localisation, sanity, sparseness
from lficam_jax.metrics.road import PERCENTAGES, road
from lficam_jax.models.answers import kind_of, told
from lficam_jax.models.classifier import predict
from lficam_jax.models.geometry import places
from lficam_jax.ops.maps import Place
from lficam_jax.structs import Variables
from lficam_jax.workdir.results import write_file
from lficam_jax.workdir.watch import each, watching

METHODS = ("own", "grad_cam", "score_cam")  # unless others are asked for
COSTLY = ("sensitivity",)  # draws each map ten times more; only when asked for
TOP = (50, 15)  # percent of the pixels kept
STEPS = 16
# The class that maps and measures are about, and how the results name it.
TARGETS = {
    "predicted": "predicted, then frozen",
    "label": "true label",
    "asked": "asked about by each example",
}


def chosen(names: Sequence[str], has_mask: bool) -> tuple[list[str], str]:
    """Returns the groups to measure and a note about what is left out.

    Raises:
      UserError: for an unknown group, or `localisation` on data that do not know the object.
    """
    for name in names:
        check_word("measure", name, GROUPS)
    if has_mask or not names:
        groups = list(names) or [name for name in GROUPS if name not in COSTLY]
        if has_mask:
            return groups, ""
        groups.remove("localisation")
        return groups, "localisation is left out: this data set does not know the object's pixels"
    if "localisation" in names:
        raise UserError(
            "--measures localisation needs data that know the object's pixels, for example "
            "cluttered_digits, or masks or boxes in your folder; leave it out"
        )
    return list(names), ""


def run(session: Session, groups: Sequence[str] = (), **asked: Any) -> int:
    """Measures; prints one table, writes `results/faithfulness.{json,csv,html}`.

    The page adds the curves and some maps; `faithfulness_images.csv` has the values of each image.
    The arguments and errors are those of `faithfulness`.
    """
    model = session.run.model
    gallery = Gallery(session.sample, session.places, model)
    images = Table(session.sample.classes, kind_of(model))
    result = faithfulness(session, groups, watchers=(gallery.add, images.add), **asked)
    found, note = result["methods"], result["left_out"]
    terminal = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    print("\n".join(filter(None, [table(found, terminal), note])))  # even if it cannot be written
    written = session.write("faithfulness", result)
    write_csv(written.with_suffix(".csv"), found)
    single = images.write(written.with_name("faithfulness_images.csv"))
    print(closing(result, written, ".csv", single.name))
    details = session.details | {k: result[k] for k in ("images", "class", "baseline")}
    if note:
        details["left_out"] = note
    html = report.page(
        gallery.explanations, title="Maps, measured", details=details, measures=for_page(found)
    )
    print(f"page  {write_file(written.with_suffix('.html'), html)}")
    return 0


def faithfulness(
    session: Session, groups: Sequence[str] = (), *, baseline: str = "mean",
    target: str = "", steps: int = STEPS, watchers: Sequence[Watcher] = (),
) -> dict[str, Any]:  # fmt: skip
    """Measures the maps of a network beside each other and beside trivial ones.

    Args:
      session: which run, images and methods; by default `METHODS`.
      groups: keys of `GROUPS`; default: all but the costly.
      baseline: what a masked pixel shows, of `metrics.faithfulness.BASELINES`.
      target: the class that maps and measures are about, a key of `TARGETS`; '': `target_of`.
      steps: of the insertion and deletion curves.
      watchers: see the single images and their maps.

    Returns:
      What `results/faithfulness.json` says; `methods` is as `scoreboard.summarise` gives it.

    Raises:
      UserError: for an unknown measure, or one that the model or the data cannot give.
    """
    target = target or target_of(session.info)
    for what, word, known in (
        ("target", target, TARGETS),
        ("baseline", baseline, measures.BASELINES),
    ):
        check_word(what, word, known)
    check_measurable(session, target)
    groups, note = chosen(groups, session.sample.has_mask)
    names = session.with_trivial(*METHODS)
    _announce(len(session.sample), names, groups, steps)
    asked = groups, baseline, steps, target, session.align
    measure = measurement(session.run.model, session.info, *asked)
    found = summarise(stream(measure, session, names, watchers), groups)
    return session.result({
        "class": TARGETS[target], "baseline": baseline, "steps": steps, "left_out": note,
        "methods": found,
    })  # fmt: skip


def target_of(info: Dataset) -> str:
    """Returns the class that maps are measured by, unless another is wanted: a key of `TARGETS`."""
    return "asked" if info.asks else "predicted"


def check_measurable(session: Session, target: str) -> None:
    """Raises a UserError where there is no probability to measure, or no class to measure it of."""
    kind, asks = kind_of(session.run.model), session.info.asks
    if asks != (target == "asked"):
        raise UserError(
            f"target={target}: each picture of {session.info.name} asks about one of its labels, "
            "and only the pixels of that one are known; leave target out: it is measured"
            if asks
            else f"target=asked needs data that ask, two_digits say; {session.info.name} does not"
        )
    if kind == "number":
        raise UserError(
            "the measures ask how the probability of a class changes, and this network predicts a "
            f"number ({', '.join(session.classes)}); lficam sanity and stability take it"
        )
    if kind == "several" and target == "label":
        raise UserError(
            "target=label needs one true class per image, and these have several labels; leave it "
            "out: the most probable label is measured"
        )


def measurement(
    model: nn.Module, info: Dataset, groups: Sequence[str], baseline: str, steps: int,
    target: str = "predicted", align: str = "centres",
) -> "Measurement":  # fmt: skip
    """Returns the programs of a network: those of before, if the same were asked for before.

    The weights are no part of them, so what is kept is small.

    Args:
      model: the network.
      info: the data set's.
      groups: keys of `GROUPS`.
      baseline: as for `faithfulness`, like all that follows.
      steps: likewise.
      target: likewise.
      align: where maps lie on the image, `centres` or `half_pixel`.
    """
    fed = Preprocess(image_size=info.image_size, mean=info.mean, std=info.std)
    asked = (model, fed, tuple(groups), baseline, steps, target, align)
    try:
        hash(model)
    except TypeError:  # a backbone of the user's with a list in it, say
        return Measurement(*asked)
    return _kept(*asked)


class Measurement:
    """The programs of one network, compiled once: clean pass, maps by each method, measures."""

    def __init__(
        self, model: nn.Module, info: Dataset | Preprocess, groups: Sequence[str], baseline: str,
        steps: int, target: str = "predicted", align: str = "centres",
    ) -> None:  # fmt: skip
        self._places = places(model, info.size, align)
        self._model, self._groups, self._baseline, self._steps = model, groups, baseline, steps
        mean, std = np.asarray(info.mean), np.asarray(info.std)
        self._black, self._target = (-mean / std).astype(np.float32), target
        self._maps: dict[tuple[str, bool, bool], Callable[..., Array]] = {}
        self._clean = over_rows(partial(self._see, info))
        self._rows = over_rows(self._measure)

    def see(self, variables: Variables, batch: Rows) -> dict[str, Array]:
        """Returns normalised images, probabilities, the frozen class and its own, random keys."""
        known = ("image", "id", "asked" if self._target == "asked" else "label")
        seen: dict[str, Array] = self._clean(variables, {name: batch[name] for name in known})
        return seen

    def rows(
        self, name: str, variables: Variables, seen: dict[str, Array], mask: np.ndarray | None,
        other_mask: np.ndarray | None = None,
    ) -> Rows:  # fmt: skip
        """Returns one method's maps and everything about them, one row per image."""
        raw = self._draw(name)(variables, seen)
        finite = np.asarray(np.isfinite(raw).all(axis=(1, 2)))
        maps = jnp.nan_to_num(raw)
        place = place_of(name, maps.shape[1:], self._places)
        full = localisation.on_image(maps, seen["image"].shape[1:3], place)
        found: dict[str, Any] = dict(self._rows(variables, seen | {"map": full}))
        if "adcc" in self._groups:
            again = self._draw(name)(variables, seen | {"image": found.pop("masked")})
            same = measures.coherency(maps, jnp.nan_to_num(again))
            found["adcc"] = measures.adcc(same, found["complexity"], found["average_drop"])
        if "sensitivity" in self._groups:
            found["max_sensitivity"] = self._draw(name, sensitivity=True)(variables, seen)
        if "localisation" in self._groups and mask is not None:
            found |= _localise(maps, mask, other_mask, place)
        rows = {k: np.array(v, np.float64) for k, v in found.items()}
        for row in rows.values():
            row[~finite] = np.nan  # a map that is not finite has no measure; it is counted
        constant: np.ndarray = np.asarray(localisation.constant(maps)) & finite
        return rows | {"constant": constant, "not_finite": ~finite, "map": np.asarray(raw)}

    def _see(
        self, info: Dataset | Preprocess, variables: Variables, batch: Any
    ) -> dict[str, Array]:
        images = normalise(batch["image"], info)
        share = self._told(variables, images)
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(batch["id"])
        classes = jnp.argmax(share, axis=1) if self._target == "predicted" else batch[self._target]
        before = jnp.take_along_axis(share, classes[:, None], axis=1)[:, 0]
        return {"image": images, "share": share, "class": classes, "before": before, "key": keys}

    def _told(self, variables: Variables, images: Array) -> Array:
        return told(kind_of(self._model), predict(self._model, variables, images).logits)

    def _draw(self, name: str, sensitivity: bool = False) -> Callable[..., Array]:
        def draw(variables: Variables, seen: Any) -> Array:
            def explain(images: Array) -> Array:
                asked, key = seen["class"], seen["key"]
                return maps_of(name, self._model, variables, images, asked, key=key)

            if sensitivity:
                return sanity.max_sensitivity(explain, seen["image"], seen["key"])
            return explain(seen["image"])

        asked = name, sensitivity, watching()
        if asked not in self._maps:
            self._maps[asked] = over_rows(draw)
        return self._maps[asked]

    def _measure(self, variables: Variables, seen: Any) -> dict[str, Array]:
        images, classes, before, maps = (seen[k] for k in ("image", "class", "before", "map"))
        ground = measures.baseline(images, self._baseline, self._black)

        def confidence(x: Array, classes: Array) -> Array:
            share = self._told(variables, x)
            return jnp.take_along_axis(share, classes[:, None], axis=1)[:, 0]

        masked = measures.masked(images, maps, ground)
        after = confidence(masked, classes)
        found = {"after": after, "average_drop": measures.average_drop(before, after)}
        if "confidence" in self._groups:
            found["increase"] = measures.increase_in_confidence(before, after)
            found["average_gain"] = measures.average_gain(before, after)
            for percent in TOP:
                kept = measures.keep_top(maps, percent / 100)
                after = confidence(measures.masked(images, kept, ground), classes)
                found[f"average_drop_{percent}"] = measures.average_drop(before, after)
                found[f"increase_{percent}"] = measures.increase_in_confidence(before, after)
        asked = confidence, images, classes, maps
        if "deletion" in self._groups:
            pair = measures.deletion(*asked, ground, steps=self._steps)
            found["deletion"], found["deletion_curve"] = pair
        if "insertion" in self._groups:
            pair = measures.insertion(*asked, steps=self._steps)
            found["insertion"], found["insertion_curve"] = pair
        if "road" in self._groups:
            found |= road(*asked, seen["key"])
        if "adcc" in self._groups:
            found |= {"masked": masked, "complexity": jnp.mean(maps, axis=(1, 2))}
        if "sparseness" in self._groups:
            found |= {"gini": sparseness.gini(maps), "entropy": sparseness.entropy(maps)}
        return found


_kept = lru_cache(maxsize=8)(Measurement)  # a second run.measure compiles nothing


def _localise(
    maps: Array, mask: np.ndarray, other_mask: np.ndarray | None, place: Place | None
) -> Rows:
    objects, asked = mask.any(axis=(1, 2)), (maps, jnp.asarray(mask), place)
    hits = {
        "pointing_game": localisation.pointing_hit(*asked),
        "energy": localisation.energy(*asked),
    }
    found = {name: np.where(objects, hit, np.nan) for name, hit in hits.items()}
    if other_mask is not None:
        both = jnp.asarray(mask), jnp.asarray(other_mask)
        found["asked_over_other"] = np.asarray(localisation.asked_over_other(maps, *both, place))
    return found | {"max_box_acc": localisation.box_overlaps(np.asarray(maps), mask, place=place)}


def stream(
    measure: Measurement,
    session: Session,
    names: Sequence[str],
    watchers: Sequence[Watcher] = (),
) -> dict[str, Rows]:
    """Measures a sample batch by batch; returns the rows of each named method, one per image."""
    parts: dict[str, list[Rows]] = {name: [] for name in names}
    pace = session.pace(len(names))
    count = -(-len(session.sample) // session.size)
    for batch in each(session.batches(), count):
        seen, found = measure.see(session.variables, batch), {}
        for name in names:
            masks = batch.get("mask"), batch.get("other_mask")
            found[name] = measure.rows(name, session.variables, seen, *masks)
            pace.tick(name)
        for watcher in watchers:
            watcher(batch, seen, found)
        for name, rows in found.items():
            kept = {k: v[batch["valid"]] for k, v in rows.items() if k != "map"}
            parts[name].append(kept)
    return {
        name: {k: np.concatenate([p[k] for p in part]) for k in part[0]}
        for name, part in parts.items()
    }


def _announce(count: int, names: Sequence[str], groups: Sequence[str], steps: int) -> None:
    passes = 1 + len(TOP) * ("confidence" in groups)
    passes += (steps + 1) * (("deletion" in groups) + ("insertion" in groups))
    passes += 2 * len(PERCENTAGES) * ("road" in groups)
    print(
        f"{count} images x {len(names)} methods x {passes} forward passes = "
        f"{count * len(names) * passes:,}, and those that draw the maps",
        flush=True,
    )
