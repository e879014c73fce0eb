"""One record of the whole study: what `results/study.json` holds, and all that is shown of it.

Every interval is over settings *and* images; every difference is paired: the same settings, the
same images.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from lficam_jax.measure.scoreboard import GROUPS, PERCENT
from lficam_jax.metrics import stability
from lficam_jax.metrics.bootstrap import Statistic, weighted_mean
from lficam_jax.metrics.crossed import crossed_interval
from lficam_jax.metrics.localisation import max_box_acc, on_image
from lficam_jax.metrics.pairs import Agreement
from lficam_jax.study.plan import BASELINE, CONTROL, OURS, REFERENCE, Run
from lficam_jax.study.runs import (
    Arrays,
    accuracy_of,
    arrays_of,
    folder,
    late_change,
    methods_of,
    place_of,
    result_of,
)

BLIND = ("gaussian", "random", "fakecam")  # trivial maps that do not depend on the image
RIVALS = ("mean_features", "grad_cam", "cam")  # that an own map is compared with
STEADY = "iou_equal_area"  # of the statistics of stability, the one that stands for them
NOT_PAIRED = ("win",)  # compares methods, not values
FIN = ("effective_channels", "correlation_with_mean")

Numbers = dict[str, Any]


def summarise(
    study: ConfigDict, runs: Sequence[Run], workdir: Path, size: tuple[int, int]
) -> Numbers:
    """Returns the record.

    Its keys: `runs accuracy maps stability ablations`; and of `lfi` minus each other, paired,
    `accuracy_versus versus blind stability_versus`; and `heads`, as `_heads` says.

    Args:
      study: its config.
      runs: all trained and measured.
      workdir: of the study.
      size: rows and columns of an image, on which maps of different settings are compared.
    """
    by_model: dict[str, dict[str, Arrays]] = {}
    for run in runs:
        by_model.setdefault(run.model, {})[run.setting] = arrays_of(folder(workdir, run))
    models = {name: by_model[name] for name in (*study.models, CONTROL) if name in by_model}
    ours = models[OURS]
    methods = {run.model: methods_of(study, run) for run in runs}
    agreed = {
        (name, m): Agreement(_on_image(models[name], m, size), clusters=_clusters(models[name]))
        for name in models for m in study.measure.stability_methods if m in methods[name]
    }  # fmt: skip
    columns = [c for g in study.measure.measures for c in GROUPS[g] if c not in NOT_PAIRED]
    return {
        "runs": {run.name: _outcome(folder(workdir, run)) for run in runs},
        "accuracy": {name: _accuracy(rows, models[BASELINE]) for name, rows in models.items()},
        "accuracy_versus": {
            name: _accuracy_difference(ours, models[name]) for name in models if name != OURS
        },
        "maps": {
            name: {m: _measures(models[name], m, columns) for m in methods[name]}
            for name in study.models
        },
        "versus": {
            f"{name}, {m}": _paired_columns(ours, "own", models[name], m, columns)
            for name, m in _rivals(study, models, methods)
        },
        "blind": {
            m: _paired_columns(ours, "own", ours, m, columns) for m in BLIND if m in methods[OURS]
        },
        "stability": {
            name: {m: each.statistics() for (of, m), each in agreed.items() if of == name}
            for name in models
        },
        "stability_versus": {
            f"{name}, {m}": agreed[OURS, "own"].minus(each)
            for (name, m), each in agreed.items()
            if (OURS, "own") in agreed and (name, m) != (OURS, "own")
        },
        "heads": _heads(models, methods, agreed, columns),
        "ablations": {name: _ablation(by_model[name], ours, columns) for name in study.ablations},
    }  # fmt: skip


def _rivals(
    study: ConfigDict, models: Iterable[str], methods: Mapping[str, Sequence[str]]
) -> list[tuple[str, str]]:
    """Lists the maps that lfi's own is set beside: others' own; post-hoc ones of plain and lfi."""
    asked = (*study.measure.methods, "mean_features")
    return [
        (name, m)
        for name in models for m in asked
        if m in methods[name] and (m == "own") != (name in (BASELINE, OURS))
    ]  # fmt: skip


def _heads(
    models: Mapping[str, Mapping[str, Arrays]], methods: Mapping[str, Sequence[str]],
    agreed: Mapping[tuple[str, str], Agreement], columns: Sequence[str],
) -> Numbers:  # fmt: skip
    """Compares the own maps of all heads.

    Its keys: `within`, each minus other maps of the same network; `reference`, the head that the
    others are set beside, None if the study has it not, and of it minus the others `between` and
    `accuracy` (minus plain: as every model).
    """
    own = [name for name in models if "own" in methods[name]]

    def minus(first: str, other: str, method: str) -> Numbers:
        found = _paired_columns(models[first], "own", models[other], method, columns)
        pair = (first, "own"), (other, method)
        if all(each in agreed for each in pair):
            found["stability"] = agreed[pair[0]].minus(agreed[pair[1]])[STEADY]
        return found

    within = {
        f"{name}, {m}": minus(name, name, m)
        for name in own for m in RIVALS
        if m in methods[name] and (name, m) != (CONTROL, "mean_features")  # which are the same
    }  # fmt: skip
    found: Numbers = {"within": within, "reference": None, "between": {}, "accuracy": {}}
    if REFERENCE not in own:
        return found
    others = [(name, "own") for name in own if name != REFERENCE]
    others += [(BASELINE, m) for m in RIVALS if m in methods[BASELINE]]
    return found | {
        "reference": REFERENCE,
        "between": {f"{name}, {m}": minus(REFERENCE, name, m) for name, m in others},
        "accuracy": {
            name: _accuracy_difference(models[REFERENCE], models[name])
            for name in models if name not in (REFERENCE, BASELINE)
        },
    }  # fmt: skip


def _outcome(here: Path) -> Numbers:
    result = result_of(here)
    test = result["test"]
    kept = ("loss", "constant_maps", "pointing_game", *FIN)
    return {"accuracy": accuracy_of(test)} | {k: test[k] for k in kept if k in test} | {
        "validation_accuracy": accuracy_of(result["validation"]),
        "validation_late_change": late_change(here),
        "best_step": result["best_step"], "step": result["step"], "seconds": result["seconds"],
    }  # fmt: skip


def _accuracy(rows: Mapping[str, Arrays], baseline: Mapping[str, Arrays]) -> Numbers:
    found = _value(
        {s: 100.0 * r["correct"] for s, r in rows.items()},
        clusters=_clusters(rows, "correct_cluster"),
    )
    if rows is not baseline:
        found["difference"] = _accuracy_difference(rows, baseline)
    return found


def _accuracy_difference(a: Mapping[str, Arrays], b: Mapping[str, Arrays]) -> Numbers:
    """Returns how much more is right, in points, under the settings that both have."""
    first, second = (np.array([100.0 * rows[s]["correct"] for s in a if s in b]) for rows in (a, b))
    return _difference(first, second, clusters=_clusters(a, "correct_cluster"))


def _clusters(rows: Mapping[str, Arrays], key: str = "cluster") -> np.ndarray | None:
    """Returns the source of each image; the same under all settings, as the images are."""
    return next(iter(rows.values())).get(key)


def _rows(rows: Mapping[str, Arrays], method: str, column: str) -> np.ndarray:
    """Returns of which of the images a method has a measure; under all settings the same."""
    arrays = next(iter(rows.values()))
    everything = np.arange(len(arrays[f"{method}/{column}"]))
    return np.asarray(arrays.get(f"rows/{method}", everything))


def _measures(rows: Mapping[str, Arrays], method: str, columns: Sequence[str]) -> Numbers:
    present = [c for c in columns if f"{method}/{c}" in next(iter(rows.values()))]
    clusters = _clusters(rows)
    if clusters is not None:
        clusters = clusters[_rows(rows, method, "constant")]
    found = {
        c: _value({s: _scaled(r, method, c) for s, r in rows.items()}, c, clusters) for c in present
    }
    counts = {k: int(sum(r[f"{method}/{k}"].sum() for r in rows.values()))
              for k in ("constant", "not_finite")}  # fmt: skip
    return found | counts


def _on_image(
    rows: Mapping[str, Arrays], method: str, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Returns the maps of each setting, of the same images in one order and at their size."""
    orders = stability.pair({s: r["id"].tolist() for s, r in rows.items()})
    return {
        s: np.asarray(on_image(r[f"map/{method}"][orders[s]], size, place_of(r, method)))
        for s, r in rows.items()
    }


def _ablation(
    rows: Mapping[str, Arrays], ours: Mapping[str, Arrays], columns: Sequence[str]
) -> Numbers:
    same = {s: ours[s] for s in rows}
    return {
        "accuracy": _accuracy(rows, same),
        "reference": _accuracy(same, same),
        "own": _paired_columns(rows, "own", same, "own", columns),
    }


def _paired_columns(
    a: Mapping[str, Arrays], of_a: str, b: Mapping[str, Arrays], of_b: str, columns: Sequence[str]
) -> Numbers:
    return {c: d for c in columns if (d := _paired(a, of_a, b, of_b, c))}


def _paired(
    a: Mapping[str, Arrays], of_a: str, b: Mapping[str, Arrays], of_b: str, column: str
) -> Numbers | None:
    measured = ((a, of_a), (b, of_b))
    if not all(f"{of}/{column}" in next(iter(rows.values())) for rows, of in measured):
        return None
    saw = [_rows(rows, of, column) for rows, of in measured]
    both = np.intersect1d(saw[0], saw[1])
    first, second = (
        np.array([_scaled(rows[s], of, column)[np.isin(seen, both)] for s in a])
        for (rows, of), seen in zip(measured, saw, strict=True)
    )
    clusters = _clusters(a)
    return _difference(first, second, column, None if clusters is None else clusters[both]) | {
        "value_of_first": _plain(_statistic(column, len(first)), first)
    }


def _value(
    rows: Mapping[str, np.ndarray], column: str = "", clusters: np.ndarray | None = None
) -> Numbers:
    values = np.array([*rows.values()], np.float64)
    statistic = _statistic(column, len(values))
    low, high, _ = crossed_interval(values, statistic, clusters=clusters)
    each = [_plain(_statistic(column, 1), one[None]) for one in values]
    return {
        "value": _plain(statistic, values), "low": low, "high": high,
        "sd": float(np.std(each, ddof=1)) if len(each) > 1 else None,
        "per_setting": dict(zip(rows, each, strict=True)),
        "n": int(np.isfinite(values.reshape(*values.shape[:2], -1)).all(axis=2).sum()),
    }  # fmt: skip


def _difference(
    a: np.ndarray, b: np.ndarray, column: str = "", clusters: np.ndarray | None = None
) -> Numbers:
    statistic = _statistic(column, len(a))

    def both(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
        return statistic(weights, values[:, 0]) - statistic(weights, values[:, 1])

    interval = crossed_interval(np.stack([a, b], axis=2), both, clusters=clusters)
    return {"value": _plain(statistic, a) - _plain(statistic, b), **interval._asdict()}


def _plain(statistic: Statistic, values: np.ndarray) -> float:
    flat = values.reshape(-1, *values.shape[2:])
    return float(statistic(np.ones((1, len(flat))), flat)[0])


def _scaled(arrays: Arrays, method: str, column: str) -> np.ndarray:
    values = arrays[f"{method}/{column}"]
    return 100 * values if column in PERCENT and column != "max_box_acc" else values


def _statistic(column: str, networks: int) -> Statistic:
    """Returns the mean over images and networks; `max_box_acc` has a threshold for each network."""
    if column != "max_box_acc":
        return weighted_mean

    def boxes(weights: np.ndarray, overlaps: np.ndarray) -> np.ndarray:
        each = weights.reshape(len(weights), networks, -1)
        rows = overlaps.reshape(networks, -1, overlaps.shape[-1])
        found = [max_box_acc(each[:, i], rows[i]) for i in range(networks)]
        there = each.sum(axis=2) > 0  # a network that is left out has no accuracy, not one of 0
        mean: np.ndarray = (np.stack(found, 1) * there).sum(1) / np.maximum(there.sum(1), 1)
        return 100 * mean

    return boxes
