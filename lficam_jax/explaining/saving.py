"""Explanations as a folder: pages to look at, pictures, arrays, and a manifest for programs."""

import contextlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lficam_jax.data.files import plain_file
from lficam_jax.errors import UserError, as_refusal, check_path, check_word, legible, shortened
from lficam_jax.explaining import render
from lficam_jax.explaining.answer import Answer
from lficam_jax.explaining.explanation import (
    ON_PAGE,
    Explanation,
    View,
    by_image,
    drawn,
    view_or_seen,
)
from lficam_jax.explaining.report import (
    Skipped,
    entry,
    laid_out,
    page_name,
    safe_name,
)
from lficam_jax.workdir.lock import Lock
from lficam_jax.workdir.origin import versions
from lficam_jax.workdir.results import plain

MARK = ".lficam_jax"  # in a folder that is being written: what a kill left may be removed
FORMAT = "lficam_jax explanations"  # says in a manifest that the folder is ours to replace
PER_PAGE = 500  # images on one page, or fewer
PAGE_LETTERS = 40 * 2**20  # of their pictures: a browser reads so many at once
IN_MANIFEST = 5  # how many of the most probable classes are written


def save(
    explanations: Sequence[Explanation], directory: str | os.PathLike[str], *, title: str,
    details: Mapping[str, Any], skipped: Skipped = (), blend: str = "fade",
) -> Path:  # fmt: skip
    """Writes explanations into `directory`, which appears complete or not at all.

    Args:
      explanations: what to write; those of one image follow one another (`by_image`).
      directory: a new or an empty folder, or one that was written like this before. Files in it
        that are not ours stay.
      title: headline of the page.
      details: what made the maps (model, data set, step, …), shown on the page.
      skipped: files that were not explained, each with the reason.
      blend: how maps lie over pictures, a key of `render.BLENDS`.

    Returns:
      The folder; the page in it is `index.html`.

    Raises:
      UserError: if the folder holds something else, or cannot be written.
    """
    with Folder(directory, title=title, details=details, blend=blend) as folder:
        folder.add(explanations)
        folder.skipped.extend(skipped)
    return folder.target


class Folder:
    """Writes explanations as they come, in flat memory; a context manager.

    The files are written into a hidden folder beside the target (pictures, arrays, pages, and
    `manifest.json` last), which takes the target's place at the end. After an error everything is
    as it was before. One process at a time writes there; another is told so.

    Args:
      directory: as for `save`.
      title: headline of the pages.
      details: what made the maps.
      blend: how maps lie over pictures.

    Attributes:
      target: the folder.
      skipped: files that were not explained, each with the reason; the first page lists them.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, title: str, details: Mapping[str, Any],
        blend: str = "fade",
    ) -> None:  # fmt: skip
        check_word("blend", blend, render.BLENDS)
        self._blend = blend
        self.target = _place(directory)
        self.skipped: list[tuple[str, str]] = []
        self._title = legible(title)
        self._details = {legible(k): legible(v) for k, v in details.items()}
        self._partial, self._former, lock = (
            self.target.with_name(f".{self.target.name}.{what}")
            for what in ("partial", "former", "lock")
        )
        self._lock = Lock(lock, self.target)
        self._taken: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._pages = 0
        self._waiting: list[dict[str, Any]] = []  # images of the page that is not full yet
        self._letters = 0  # of their pictures

    def add(self, explanations: Sequence[Explanation]) -> None:
        """Writes PNGs and arrays of explanations; an image comes with all its methods."""
        with _teaching(self.target):
            for same in by_image(explanations):
                stem = safe_name(same[0].id, self._taken)
                methods: dict[str, int] = {}
                view = view_or_seen(same[0], ON_PAGE)
                for item in same:  # a point is in no other name
                    method = safe_name(item.method, methods)
                    self._write(stem if len(same) == 1 else f"{stem}.{method}", item, view)
                image = entry(same, view)
                letters = len(image["picture"])
                full = len(self._waiting) == PER_PAGE or self._letters + letters > PAGE_LETTERS
                if self._waiting and full:
                    self._write_page(last=False)
                self._waiting.append(image)
                self._letters += letters

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._lock)
            self._begin()
            stack.pop_all()  # held until the end
        return self

    def _begin(self) -> None:
        with _teaching(self.target):
            if self._former.exists() and not self.target.exists():
                self._former.rename(self.target)  # killed between the two renames of before
            _check_ours(self.target)
            if self._former.exists():  # killed behind them
                _keep_foreign(self._former, self.target)
                shutil.rmtree(self._former)
            if self._partial.exists():
                _check_leftover(self._partial)
                shutil.rmtree(self._partial)
            self._partial.mkdir(parents=True)
            (self._partial / MARK).touch()
            archive = self._partial / "maps.npz"
            self._arrays = zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        try:
            with _teaching(self.target):
                self._arrays.close()
                if kind is None:
                    self._write_page(last=True)
                    self._write_manifest()
                    self._take_place()
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._lock.__exit__(kind, error, trace)

    def _write(self, name: str, item: Explanation, view: View) -> None:
        with self._arrays.open(f"{name}.npy", "w") as entry:
            np.lib.format.write_array(entry, np.ascontiguousarray(item.map))
        render.save_png(drawn(item, view, blend=self._blend), self._partial / f"{name}.png")
        raw = render.enlarge(render.colorize(item.map))
        raw = raw if np.ptp(item.map) > 0 else render.written(raw, "constant")
        render.save_png(raw, self._partial / f"{name}.map.png")
        self._rows.append(_for_manifest(name, item))

    def _write_page(self, *, last: bool) -> None:
        number = self._pages = self._pages + 1
        html = laid_out(
            self._waiting, title=self._title, details=self._details, blend=self._blend,
            skipped=self.skipped if number == 1 else (), number=number, last=last,
        )  # fmt: skip
        (self._partial / page_name(number)).write_text(
            html, encoding="utf-8", errors="backslashreplace"
        )
        self._waiting, self._letters = [], 0

    def _write_manifest(self) -> None:
        manifest = {
            "format": FORMAT,
            "title": self._title,
            "details": self._details,
            "pages": [page_name(number) for number in range(1, self._pages + 1)],
            "images": self._rows,
            "skipped": [{"file": str(name), "reason": str(why)} for name, why in self.skipped],
            "versions": versions(),
        }
        text = json.dumps(plain(manifest), indent=1, ensure_ascii=False, allow_nan=False)
        (self._partial / "manifest.json").write_text(
            text + "\n", encoding="utf-8", errors="backslashreplace"
        )

    def _take_place(self) -> None:
        if self.target.exists():
            self.target.rename(self._former)
        (self._partial / MARK).unlink()
        self._partial.rename(self.target)
        if self._former.exists():
            _keep_foreign(self._former, self.target)
            shutil.rmtree(self._former, ignore_errors=True)


def _for_manifest(stem: str, item: Explanation) -> dict[str, Any]:
    return {
        "id": item.id,
        "name": item.name,
        "notes": item.notes,
        "box": item.box,  # top, left, height, width
        **_answer(item.answer),
        "probabilities": item.top(IN_MANIFEST),  # pairs: two classes may share a name
        "method": item.method,
        "asked_about": item.about,
        "peak": list(item.peak),
        "peak_on_object": item.peak_on_object,
        "files": {"overlay": f"{stem}.png", "map": f"{stem}.map.png", "array": f"maps.npz:{stem}"},
    }


def _answer(said: Answer) -> dict[str, Any]:
    """Returns `label` and `predicted`: a class's name, names of labels, or a number."""
    label, predicted = said.true, said.text
    values: dict[str, Any] = {"label": label, "predicted": predicted, "correct": said.correct}
    if said.kind == "several":
        values["label"] = None if label is None else said.right
        values["predicted"] = [said.classes[i] for i in said.present]
        values |= {"unknown": said.unknown} if said.unknown else {}
    if said.kind == "number":
        values["label"] = None if label is None else said.number
        values["predicted"] = float(said.values[0])
    return values


def _manifest(folder: Path) -> dict[str, Any] | None:
    """Returns the manifest of a folder that was written here; None if it was not."""
    try:
        found = json.loads(plain_file(folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(found, dict) and found.get("format") == FORMAT
    return found if ours and isinstance(found.get("images"), list) else None


def _place(directory: str | os.PathLike[str]) -> Path:
    if "://" in str(directory):
        raise UserError(f"{directory} is in a bucket; save to a folder here, and copy it there")
    given = check_path("the folder to save to", directory)
    try:
        here, target = Path.cwd(), Path(os.path.realpath(given))  # `resolve` raises of a circle
    except FileNotFoundError as error:
        raise as_refusal(error) or error from error
    if target == here or target in here.parents:
        raise UserError(f"{target} is the current folder, or holds it; name a folder inside it")
    return target


def _check_leftover(partial: Path) -> None:
    if not partial.is_dir() or (any(partial.iterdir()) and not (partial / MARK).exists()):
        raise UserError(f"{partial} is in the way and not ours to remove; move it elsewhere")


def _check_ours(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file; choose a folder")
    if target.exists() and any(target.iterdir()) and _manifest(target) is None:
        raise UserError(f"{target} holds other files; choose an empty or a new folder")


def _keep_foreign(former: Path, target: Path) -> None:
    """Moves what somebody else put into the former folder to the new one."""
    manifest, ours = _manifest(former), set()
    if manifest is not None:
        ours = {"manifest.json", "maps.npz", *_texts(manifest.get("pages"))}
        for row in manifest["images"]:
            ours.update(_texts(row.get("files") if isinstance(row, dict) else None))
    for path in former.iterdir():
        if path.name not in ours:
            place = target / path.name
            path.rename(place if not place.exists() else target / f"{path.name}.kept")


def _texts(found: Any) -> list[str]:
    """Returns the words in a part of a manifest, which may have been edited by hand."""
    values = found.values() if isinstance(found, dict) else found
    return [v for v in values if isinstance(v, str)] if isinstance(found, dict | list) else []


@contextlib.contextmanager
def _teaching(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {shortened(str(target))}: {error.strerror or error}"
        ) from error
