"""`--mode explain`: a sample of a split, or the user's own files, as a folder of explanations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from lficam_jax.data import Dataset, find_images, fit_image, normalise, open_source, read_image
from lficam_jax.data.sample import Sample
from lficam_jax.errors import UserError
from lficam_jax.explaining.explain import explain
from lficam_jax.explaining.explanation import Explanation, by_image
from lficam_jax.explaining.saving import save
from lficam_jax.explaining.session import Session


def run(session: Session, images: Sequence[str] = ()) -> int:
    """Explains a sample of a split, or the user's own files, and says where to look.

    Writes `<workdir>/explanations/<step>/` (own files: `<step>-images/`) and
    `results/explain.json`.

    Args:
      session: whose methods lie side by side, by default that of `explain`; without a split if
        there are images.
      images: files, directories or globs; empty: the examples of the session.

    Returns:
      The exit code: 0, or 1 if some of the files could not be read (they are named).

    Raises:
      UserError: if there is nothing to explain, or the output cannot be written.
    """
    trained, info = session.run, session.info
    if images:
        pixels, about, skipped = _read_files(images, info)
    else:
        pixels, about, skipped = _read_split(session.split, session.sample)
    about.setdefault("classes", _class_names(trained.config, info))
    found = explain(
        trained.model, trained.variables, normalise(pixels, info), pictures=pixels,
        method=session.methods() or None, **about,
    )  # fmt: skip
    details = session.details | {"maps": ", ".join(dict.fromkeys(item.method for item in found))}
    name = f"{trained.step}-images" if images else f"{trained.step}"
    folder = save(
        found, trained.workdir / "explanations" / name, title="Where the model looked",
        details=details, skipped=skipped,
    )  # fmt: skip
    told = {"skipped": dict(skipped), "folder": str(folder)}
    result = session.result(_summary(found) | told)
    session.write("explain", result)
    _print(by_image(found) if images else (), skipped, result)
    return 1 if skipped else 0


def _read_split(
    split: str, sample: Sample
) -> tuple[UInt8[np.ndarray, "n y x 3"], dict[str, Any], list[tuple[str, str]]]:
    (batch,) = sample.batches(len(sample))
    about = {
        "labels": batch["label"].tolist(),
        "ids": batch["id"].tolist(),
        "names": [f"{split} {i}" for i in batch["id"]],
        "masks": list(batch["mask"]) if "mask" in batch else None,
        "classes": sample.classes,
    }
    return batch["image"], about, []


def _read_files(
    patterns: Sequence[str], info: Dataset
) -> tuple[UInt8[np.ndarray, "n y x 3"], dict[str, Any], list[tuple[str, str]]]:
    paths, pixels, skipped = find_images(patterns), {}, []
    for path in paths:
        try:
            pixels[path] = fit_image(read_image(path), info)
        except UserError as error:
            name = _legible(path)
            skipped.append((name, _legible(error).removeprefix(f"{name} ")))
    if not pixels:
        lines = "\n  ".join(f"{name}: {why}" for name, why in skipped)
        raise UserError(f"none of the {len(paths)} files among --images can be read:\n  {lines}")
    names = [_legible(path) for path in pixels]
    about = {"ids": [Path(name).name for name in names], "names": names}
    return np.stack(list(pixels.values())), about, skipped


def _legible(text: object) -> str:
    """Returns text that any file and terminal takes: file names may hold any bytes."""
    return str(text).encode(errors="backslashreplace").decode()


def _class_names(config: ConfigDict, info: Dataset) -> tuple[str, ...] | None:
    """Returns the names; where only the prepared files know them and are absent, None."""
    if info.classes:
        return info.classes
    try:
        return tuple(open_source(config.data, config.explain.split).classes)
    except UserError:
        return None


def _summary(found: Sequence[Explanation]) -> dict[str, Any]:
    """Returns the count and, where labels and masks are known, the shares of hits among them.

    With several methods, `pointing_game` is of the first; `methods` tells it of each.
    """
    images = by_image(found)
    result = {"images": len(images)} | _share("accuracy", [first.correct for first, *_ in images])
    result["methods"] = {}
    for same in zip(*images, strict=True):
        hits = _share("pointing_game", [item.peak_on_object for item in same])
        constant = sum(not np.ptp(item.map) > 0 for item in same)  # or NaN
        result["methods"][same[0].method] = hits | {"constant_maps": constant}
        result = hits | result
    return result


def _share(name: str, verdicts: Sequence[bool | None]) -> dict[str, float]:
    known = [verdict for verdict in verdicts if verdict is not None]
    return {name: float(np.mean(known))} if known else {}


def _print(
    shown: Sequence[Sequence[Explanation]],
    skipped: Sequence[tuple[str, str]],
    result: dict[str, Any],
) -> None:
    for item, *_ in shown:
        (name, share), *_ = item.top(1)
        print(f"{item.name}: {name} ({100 * share:.1f} %)")
    for name, why in skipped:
        print(f"skipped {name}: {why}")
    print(f"images explained  {result['images']}" + (f", {len(skipped)} skipped" * bool(skipped)))
    if "accuracy" in result:
        print(f"accuracy of them  {100 * result['accuracy']:.1f} %")
    several = len(result["methods"]) > 1
    for method, values in result["methods"].items():
        whose = f"  {method}" if several else ""
        if "pointing_game" in values:
            print(f"peak on object    {100 * values['pointing_game']:.1f} %{whose}")
        if values["constant_maps"]:
            print(f"constant maps     {values['constant_maps']}{whose}")
    print(f"page              {result['folder']}/index.html")
