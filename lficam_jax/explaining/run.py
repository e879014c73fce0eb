"""`lficam explain`: a sample of a split, or the user's own files, as a folder of explanations."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lficam_jax.data import find_images, normalise
from lficam_jax.errors import UserError, legible
from lficam_jax.explaining.asking import check_range, indices
from lficam_jax.explaining.explain import explain_inputs
from lficam_jax.explaining.explanation import Explanation, by_image, distinct
from lficam_jax.explaining.explanations import Explanations
from lficam_jax.explaining.inputs import Inputs, fit_files, read_inputs
from lficam_jax.explaining.look import Ours
from lficam_jax.explaining.saving import Folder
from lficam_jax.explaining.session import Session
from lficam_jax.explaining.tiles import explain_tiled
from lficam_jax.explaining.video import explain_video
from lficam_jax.methods import asks
from lficam_jax.workdir.progress import Pace
from lficam_jax.workdir.results import teaching

AT_ONCE = 256  # images in memory

Part = tuple[Inputs, dict[str, Any]]  # images, and what is known of them for `explain_inputs`


def run(
    session: Session, images: Sequence[str] = (), *, target: str | int | None = None,
    out: str | Path = "", tiles: bool = False,
) -> int:  # fmt: skip
    """Explains a sample of a split, or the user's own files, and says where to look.

    Writes `<workdir>/explanations/<step>/` and `results/explain.json`. Own files go to
    `<step>-images/`, or the next of that name that is free: an earlier explanation stays. A
    pretrained network without a folder writes one with its name, and no results beside it.

    Args:
      session: whose methods lie side by side, by default that of `explain`; without a split if
        there are images.
      images: files, directories or globs; empty: the examples of the session.
      target: the class that maps are asked about, by name or number; None: the predicted one, or
        of examples that ask about a class that one.
      out: another folder for the explanations.
      tiles: whether files are looked at in their full size, through windows.

    Returns:
      The exit code: 0, or 1 if some of the files could not be read (they are named).

    Raises:
      UserError: if there is nothing to explain, or the output cannot be written.
    """
    skipped: list[tuple[str, str]] = []
    paths = find_images(images, skipped) if images else []
    total = len(paths) + len(skipped) if images else len(session.sample)
    parts = _files(session, paths) if images else _examples(session, asked=target is None)
    seen = _tiled(session, paths, target) if tiles else _explained(session, parts, target)
    tally, pace = Tally(), Pace(total if tiles else -(-total // AT_ONCE))
    place: Folder | UserError | None = None
    with contextlib.ExitStack() as stack:
        for found, lost in seen:
            skipped += lost
            if found:
                if place is None:  # not before there is something to write
                    place = _opened(stack, session, bool(images), out, found.details)
                if isinstance(place, Folder):
                    place.add(found)
                tally.add(found, tell=bool(images))
            pace.tick(f"{tally.images + len(skipped)} of {total} images")
        if place is None:
            told = f"none of the {total} files among --images can be explained:"
            raise UserError("\n  ".join([told, *(f"{name}: {why}" for name, why in skipped)]))
        if isinstance(place, Folder):
            place.skipped += skipped
    result = session.result(tally.summary() | {"skipped": dict(skipped)})
    _print(skipped, result)  # even where nothing can be written
    if isinstance(place, UserError):
        raise place
    print(f"page              {place.target}/index.html")
    if session.run.workdir is not None:
        session.write("explain", result | {"folder": str(place.target)})
    return 1 if skipped else 0


def _explained(
    session: Session, parts: Iterator[Part], target: str | int | None
) -> Iterator[tuple[Explanations, list[tuple[str, str]]]]:
    """Yields explanations, and the files that cannot be read."""
    first = 0
    for inputs, about in parts:
        found = Explanations([])
        if len(inputs.images):
            found = explain_inputs(
                Ours(session.run.model), session.variables, inputs, session.methods(),
                classes=session.classes, first=first, align=session.align,
                **{"target": target, **about},
            )  # fmt: skip
        first += len(inputs.images)
        yield found, inputs.skipped


def _tiled(
    session: Session, paths: Sequence[Path], target: str | int | None
) -> Iterator[tuple[Explanations, list[tuple[str, str]]]]:
    """Yields the explanations of each file, seen through windows, or why it has none."""
    known = session.classes  # an unknown class is no file's fault
    if known:
        check_range("target", indices("target", target, known, 1) or (), len(known))
    names = [legible(path) for path in paths]
    for path, name, id in zip(paths, names, distinct(names), strict=True):
        try:
            found = explain_tiled(
                session.run.model, session.variables, path, preprocess=session.info,
                classes=session.classes, method=session.methods() or None, target=target,
                align=session.align,
            )  # fmt: skip
        except UserError as error:
            why = str(error).rpartition("\n")[2].strip().removeprefix(f"{name}: ")
            yield Explanations([]), [(name, why)]
        else:
            items = [replace(item, id=id) for item in found]
            yield Explanations(items, details=found.details), found.skipped


def run_video(
    session: Session, video: str, *, target: str | int | None = None, out: str = ""
) -> int:
    """Draws maps over a video; says where the new one is.

    Args:
      session: whose network and methods.
      video: its path.
      target: the class that maps are asked about, by name or number; None: the predicted one.
      out: of the new video; '': its name with `-maps` behind it, in the folder one stands in, or
        the next of that name that is free: an earlier one stays.

    Raises:
      UserError: as `video.explain_video` does.
    """

    def look(frames: Sequence[np.ndarray]) -> Explanations:
        return explain_inputs(
            Ours(session.run.model), session.variables, read_inputs(frames, session.info),
            session.methods(), target=target, classes=session.classes, align=session.align,
        )  # fmt: skip

    with contextlib.ExitStack() as stack:
        if not out:
            taken = _new(
                Path(), f"{Path(video).stem}-maps", ".mp4", partial(Path.touch, exist_ok=False)
            )
            stack.callback(_remove_if_empty, taken)
        print(f"video  {explain_video(look, video, out=out or taken)}")
    return 0


def _opened(
    stack: contextlib.ExitStack, session: Session, own_files: bool, out: str | Path,
    details: Mapping[str, Any],
) -> Folder | UserError:  # fmt: skip
    """Opens the folder of a page; returns why it cannot be, where nobody chose it.

    Then the numbers come first. A folder that was asked for is told about at once.
    """
    run, chosen = session.run, out
    if run.workdir is None:
        place, name = Path(), run.slug
    else:
        place, name = run.workdir / "explanations", f"{run.step}{'-images' * own_files}"
    try:
        if own_files and not out:
            chosen = _new(place, name, "", Path.mkdir)
            stack.callback(_remove_if_empty, chosen)
        return stack.enter_context(
            Folder(
                chosen or place / name, title="Where the model looked",
                details=session.details | dict(details), blend=session.run.config.explain.blend,
            )
        )  # fmt: skip
    except UserError as error:
        if out:
            raise
        return error


def _new(place: Path, name: str, ending: str, make: Callable[[Path], None]) -> Path:
    """Makes the first of NAME, NAME-2, … that is not there; several processes get one each."""
    names = (f"{name}{f'-{n}' * (n > 1)}{ending}" for n in itertools.count(1))
    with teaching(place / f"{name}{ending}", "name another place by --out"):
        place.mkdir(parents=True, exist_ok=True)
        return next(place / free for free in names if _made(place / free, make))


def _made(path: Path, make: Callable[[Path], None]) -> bool:
    try:
        make(path)
    except FileExistsError:
        return False
    return True


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir():
            path.rmdir()
        elif not path.stat().st_size:
            path.unlink()


def _examples(session: Session, asked: bool) -> Iterator[Part]:
    """Yields the examples of the session, with all that is known of them.

    With `asked` maps that can be asked about a class are asked about that of the example, if any;
    of another class the example does not know the pixels.
    """
    knows = asked or not session.info.asks
    drawn = session.methods() or session.methods("own", "grad_cam")[:1]
    asked = asked and session.info.asks and any(asks(m, session.run.model) for m in drawn)
    for batch in session.sample.batches(min(AT_ONCE, len(session.sample))):
        rows = {name: values[batch["valid"]] for name, values in batch.items()}
        names = rows["name"].tolist()
        notes = [tuple(lines.splitlines()) for lines in rows["notes"].tolist()]
        boxes = [tuple(box) for box in rows["box"].tolist()]
        fed = normalise(rows["image"], session.info)
        inputs = Inputs(fed, rows["image"], names, notes=notes, boxes=boxes)
        about = {"labels": rows["label"].tolist(), "ids": rows["id"].tolist()}
        if "mask" in rows and knows:
            about["masks"] = list(rows["mask"])
        yield inputs, about | ({"target": rows["asked"].tolist()} if asked else {})


def _files(session: Session, paths: Sequence[Path]) -> Iterator[Part]:
    names = [legible(path) for path in paths]
    ids = dict(zip(names, distinct(names), strict=True))
    for start in range(0, len(paths), AT_ONCE):
        inputs = fit_files(paths[start : start + AT_ONCE], session.info)
        yield inputs, {"ids": [ids[name] for name in inputs.names]}


class Tally:
    """Counts what is summed up at the end, and tells of each image as it comes.

    Attributes:
      images: how many there were.
    """

    def __init__(self) -> None:
        self.images = 0
        self._correct: list[bool] = []
        self._exact = False  # several labels, right all or not
        self._errors: list[float] = []  # of numbers
        self._hits: dict[str, list[bool]] = {}
        self._constant: Counter[str] = Counter()

    def add(self, found: Sequence[Explanation], *, tell: bool) -> None:
        """Counts explanations; with `tell`, prints the class of each image."""
        for same in by_image(found):
            self.images += 1
            first = same[0]
            if tell:
                read = f"; {'; '.join(first.notes)}" if first.notes else ""
                share = first.answer.shares().replace("%", " %")
                said = f"{first.answer.text} ({share})" if share else first.answer.text
                print(f"{first.name}: {said}{read}")
            if first.answer.error is not None:
                self._errors.append(abs(first.answer.error))
            self._exact = first.kind == "several"
            if first.correct is not None:
                self._correct.append(first.correct)
            for item in same:
                hits = self._hits.setdefault(item.method, [])
                if item.peak_on_object is not None:
                    hits.append(item.peak_on_object)
                self._constant[item.method] += not np.ptp(item.map) > 0  # or NaN

    def summary(self) -> dict[str, Any]:
        """Returns the count and, where labels and masks are known, the shares of hits among them.

        Of several labels `exact_match`, of numbers `mae` instead of `accuracy`.

        With several methods, `pointing_game` is of the first; `methods` tells it of each.
        """
        pointing = {name: _share("pointing_game", hits) for name, hits in self._hits.items()}
        methods = {
            name: share | {"constant_maps": self._constant[name]}
            for name, share in pointing.items()
        }
        first = next(iter(pointing.values()))
        right = _share("exact_match" if self._exact else "accuracy", self._correct)
        return {"images": self.images, **right, **_share("mae", self._errors), **first,
                "methods": methods}  # fmt: skip


def _share(name: str, verdicts: Sequence[float]) -> dict[str, float]:
    return {name: float(np.mean(verdicts))} if verdicts else {}


def _print(skipped: Sequence[tuple[str, str]], result: dict[str, Any]) -> None:
    for name, why in skipped:
        print(f"skipped {name}: {why}")
    print(f"images explained  {result['images']}" + (f", {len(skipped)} skipped" * bool(skipped)))
    if "accuracy" in result:
        print(f"accuracy of them  {100 * result['accuracy']:.1f} %")
    if "exact_match" in result:
        print(f"all labels right  {100 * result['exact_match']:.1f} %")
    if "mae" in result:
        print(f"mean error        {result['mae']:.4g}")
    several = len(result["methods"]) > 1
    for method, values in result["methods"].items():
        whose = f"  {method}" if several else ""
        if "pointing_game" in values:
            print(f"peak on object    {100 * values['pointing_game']:.1f} %{whose}")
        if values["constant_maps"]:
            print(f"constant maps     {values['constant_maps']}{whose}")
