"""`lficam robustness`: attacked or corrupted, does the class hold, and does the map?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from lficam_jax.devices.parallel import over_rows
from lficam_jax.errors import UserError
from lficam_jax.explaining.session import Session
from lficam_jax.measure.observe import HostBatch, Observer, Perturbation, Seen
from lficam_jax.measure.resemblance import Found, leave, summarise, table
from lficam_jax.metrics import stability
from lficam_jax.metrics.bootstrap import summary
from lficam_jax.metrics.localisation import constant, on_image
from lficam_jax.models.answers import kind_of
from lficam_jax.structs import Variables
from lficam_jax.workdir.progress import Pace

STATISTICS = ("iou", "iou_equal_area", "spearman")
EXAMPLES = 2  # on the picture
WIDEST = 13  # columns of the picture

Values = dict[str, np.ndarray]  # statistic -> one value per image


def run(session: Session, plan: Sequence[Perturbation]) -> int:
    """Measures; prints how accuracy and maps hold, writes `results/robustness.{json,csv,png}`.

    The arguments and errors are those of `robustness`.
    """
    observer = Observer.of(session)
    result = robustness(session, plan, observer)
    found = result["perturbations"]
    few = session.few(min(EXAMPLES, len(session.sample)))
    looks = gallery(observer, session.variables, next(few.batches(session.size)), plan)
    leave(session, "robustness", result, found, told(found), looks, len(few), over=True)
    return 0


def robustness(
    session: Session, plan: Sequence[Perturbation], observer: Observer | None = None
) -> dict[str, Any]:
    """Compares each perturbed look at the sample with the clean one, which is the first row.

    Only maps at their own grid and predictions are kept; the pictures stream through once for each
    perturbation. Chance: each image's map beside the perturbed map of another image.

    Args:
      session: which run, pictures and methods.
      plan: of `observe.planned`.
      observer: of the session, where its programs are used again.

    Returns:
      What `results/robustness.json` says; `perturbations` is a `resemblance.Found`.

    Raises:
      UserError: for a method that the model cannot give.
    """
    if kind_of(session.run.model) != "class":
        raise UserError(
            "robustness asks whether the class holds, and this network gives an image no single "
            "class (model.loss); lficam sanity and stability take it"
        )
    observer = observer or Observer.of(session)
    count, names = len(session.sample), observer.methods
    print(f"{count} images x {1 + len(plan)} looks, {len(names)} methods", flush=True)
    pace, alike = session.pace(1 + len(plan)), _comparison(session)
    others = stability.shuffled(count, np.random.default_rng(0))
    clean = _observed(observer, session, pace)
    everything: dict[str, Any] = {"clean": None} | {str(one): one for one in plan}
    found: Found = {}
    for what, perturbation in everything.items():
        seen = clean
        if perturbation is not None:
            seen = _observed(observer, session, pace, clean["class"], perturbation)
        methods = {}
        for name in names:
            maps, first = seen["maps"][name], clean["maps"][name]
            if found and np.array_equal(maps, first):  # it looks at no picture
                methods[name] = found["clean"]["methods"][name]
                continue
            finite = np.isfinite(maps).all(axis=(1, 2))
            values, chance = alike(first, maps, first[others])
            methods[name] = {
                "constant": int((np.asarray(constant(maps)) & finite).sum()),
                "not_finite": int((~finite).sum()), "statistics": summarise(values, chance),
            }  # fmt: skip
        network = {
            "accuracy": summary(seen["predicted"] == clean["label"]),
            "changed": summary(seen["predicted"] != clean["predicted"]),
        }
        found[what] = {"network": network, "methods": methods}
    return session.result({"class": "predicted, then frozen", "perturbations": found})


def gallery(
    observer: Observer, variables: Variables, batch: HostBatch, plan: Sequence[Perturbation]
) -> dict[str, Seen]:
    """Looks at a batch, clean and perturbed; if there are many levels, at the highest of each."""
    looks = {"clean": jax.device_get(observer.look(variables, batch))}
    if len(plan) >= WIDEST:
        plan = list({one.name: one for one in plan}.values())  # the last level of each
    for one in plan:
        seen = observer.look(variables, batch, looks["clean"]["class"], one)
        looks[str(one)] = jax.device_get(seen)
    return looks


def told(found: Found) -> str:
    """Writes the tables of `found` and what their numbers are."""
    return (
        f"\n{table(found, STATISTICS)}\n"
        "value ± half of the 95 % bootstrap interval over images (chance: the perturbed map of "
        "another image);\nthe map of the clean image and that of the perturbed one, for the class "
        "predicted on the clean image.\n"
        "(in brackets: maps that know nothing) gaussian and fakecam never change and random always "
        "does: a map that holds\nis worth something only if it told something, see lficam "
        "faithfulness."
    )


def _observed(
    observer: Observer, session: Session, pace: Pace,
    classes: Int[np.ndarray, " n"] | None = None, perturbation: Perturbation | None = None,
) -> dict[str, Any]:  # fmt: skip
    parts = []
    for batch in session.batches():
        asked = None if classes is None else classes[batch["rows"]]
        seen = observer.look(session.variables, batch, asked, perturbation)
        del seen["image"]
        seen["label"] = batch["label"]
        parts.append(jax.tree.map(lambda v, keep=batch["valid"]: np.asarray(v)[keep], seen))
        pace.tick(str(perturbation or "clean"))
    seen = jax.tree.map(lambda *rows: np.concatenate(rows), *parts)
    return dict(seen)


def _comparison(session: Session) -> Callable[..., tuple[Values, Values]]:
    """Returns the function that compares maps [n h w] row by row with two others, on the image."""
    size, rows = session.info.size, session.size

    def statistics(_: Any, maps: Mapping[str, Array]) -> tuple[dict[str, Array], ...]:
        finite = {k: jnp.isfinite(v).all(axis=(1, 2)) for k, v in maps.items()}
        place = session.places.get(maps["maps"].shape[1:])
        drawn = {k: on_image(v, size, place) for k, v in maps.items()}

        def against(key: str) -> dict[str, Array]:
            exists = finite[key] & finite["maps"]
            both = drawn[key], drawn["maps"]  # sorted once: one program asks both times
            found = {name: stability.STATISTICS[name](*both) for name in STATISTICS}
            return {name: jnp.where(exists, value, jnp.nan) for name, value in found.items()}

        return against("first"), against("other")

    program = over_rows(statistics)

    def compare(first: np.ndarray, maps: np.ndarray, other: np.ndarray) -> tuple[Values, Values]:
        count, parts = len(maps), []
        asked = {"first": first, "maps": maps, "other": other}
        for start in range(0, count, rows):
            at = np.arange(start, start + rows) % count
            parts.append(jax.device_get(program({}, {k: v[at] for k, v in asked.items()})))
        near, far = jax.tree.map(lambda *values: np.concatenate(values)[:count], *parts)
        return near, far

    return compare
