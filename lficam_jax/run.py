"""A trained run, ready to be asked: `lficam_jax.load`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from lficam_jax import structs
from lficam_jax.config import validate
from lficam_jax.data import SPLITS, Dataset, counts, dataset_info
from lficam_jax.errors import UserError, brief, check_path, check_whole, check_word, nearest, words
from lficam_jax.explaining.answer import Answer, heads
from lficam_jax.explaining.explain import explain
from lficam_jax.explaining.explanation import distinct
from lficam_jax.explaining.explanations import Explanations, told_skipped
from lficam_jax.explaining.export import export
from lficam_jax.explaining.inputs import read_inputs
from lficam_jax.explaining.look import BATCH, FUSIONS, Ours, Plan, look
from lficam_jax.explaining.session import Session
from lficam_jax.interop import pretrained
from lficam_jax.interop.export.weights import find_weights
from lficam_jax.interop.listing import names
from lficam_jax.measure.faithfulness import faithfulness
from lficam_jax.measure.measures import Measures
from lficam_jax.methods.loops import CHUNK_SIZE
from lficam_jax.models.answers import kind_of
from lficam_jax.training.experiment import load_run
from lficam_jax.workdir.folder import read_config
from lficam_jax.workdir.remote import fetched, is_remote
from lficam_jax.workdir.table import aligned


def load(
    workdir: str | Path, *, step: int | None = None, data: Mapping[str, Any] | None = None,
    file: str | Path = "",
) -> "Run":  # fmt: skip
    """Opens a trained run, or a pretrained network: weights, classes and preprocessing come along.

    Args:
      workdir: the run's folder, or its address in a bucket (`gs://…`), or the name of a pretrained
        network, such as `cluttered_digits` or `efficientnet_lite0` (`models()` lists them), or a
        `.safetensors` file that `Run.export` wrote.
      step: of the checkpoint; None: the best on the validation split.
      data: keys of `config.data` that differ here, for example `{"dir": "/data"}`. The data
        themselves are needed only to measure.
      file: of a pretrained network's weights; '': where its package or a download has put them.

    Raises:
      UserError: if the folder holds no run, or no checkpoint that can be read; if the weights of a
        pretrained network are not there: the message says how to get them; for a key of `data` that
        does not exist, or a value of another kind.

    Example:
      >>> import lficam_jax as lfi
      >>> run = lfi.load("runs/quickstart")
      >>> e = run.explain("photo.png")
      >>> e[0].overlay().size  # that of photo.png
      (320, 240)
    """
    path = check_path("workdir", workdir)
    if step is not None:
        step = check_whole("step", step, 0)
    name = str(workdir)
    taken = (path / "config.json").exists() and find_weights(name) is None  # by a run
    if pretrained.is_name(name) and not taken:
        return _pretrained(name, step, data, file)
    if file:
        raise UserError(f"file={file} is for a pretrained network, and {name} is none")
    if not (is_remote(name) or path.exists()) and "/" not in name:
        raise UserError(f"there is no run {name}{nearest(name, [*names()])}")
    with fetched(str(workdir) if is_remote(str(workdir)) else str(path)) as here:
        config = read_config(here)
        _change(config.data, data)
        validate(config)
        found = load_run(config, here, step)
    variables = jax.device_put(dict(found.variables))  # once, not at each call
    return Run(path, found.config, found.model, variables, found.step)


def _pretrained(
    name: str, step: int | None, data: Mapping[str, Any] | None, file: str | Path
) -> "Run":
    if step is not None:
        raise UserError(f"step={step} is of a run's checkpoint, and {name} has none")
    config = pretrained.config_of(name, file)
    _change(config.data, data)
    if config.data.folder:
        pretrained.on_folder(config)
    validate(config)
    found = pretrained.load_pretrained(name, file, config)
    return Run(None, config, found.model, jax.device_put(dict(found.variables)), 0, name)


def _change(ours: ConfigDict, data: Any) -> None:
    """Sets keys of `config.data`; a path may be a `Path`."""
    if not isinstance(data, Mapping | None):
        raise UserError(f"data must be a dict of keys of config.data, not {brief(data)}")
    for key, value in (data or {}).items():
        if key not in ours:
            raise UserError(f"data: the key {brief(key)} is unknown{nearest(str(key), [*ours])}")
        value = str(value) if isinstance(value, Path) else value
        try:
            if value is None:
                raise TypeError
            ours[key] = value
        except TypeError as error:
            kind = type(ours[key]).__name__
            raise UserError(f"data: {key}={brief(value)} must be of type {kind}") from error


@dataclass(frozen=True, repr=False, eq=False)
class Run(structs.Run):
    """A trained network that explains, predicts and is measured. Made by `load`.

    Example:
      >>> import lficam_jax as lfi
      >>> run = lfi.load("runs/quickstart")
      >>> run.classes[:3], run.dataset.image_size
      (('0', '1', '2'), 16)
      >>> run.predict("photo.png").probabilities.shape
      (1, 10)
    """

    @cached_property
    def dataset(self) -> Dataset:
        """What the network was trained on: classes, size, mean and deviation of its images."""
        return dataset_info(self.config.data)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the logits."""
        return self.dataset.classes

    @property
    def about(self) -> dict[str, Any]:
        """What a page of explanations says of the network."""
        step = {} if self.name else {"step": self.step}
        return {"model": self.title, "data": "images of your own", **step}

    def explain(
        self, images: Any, *, method: str | Sequence[str] | None = None,
        target: Any = None, labels: Sequence[Any] | None = None, names: Sequence[str] | None = None,
        layer: Any = None, fuse: str = FUSIONS[0], normalised: bool = False,
        batch_size: int = BATCH, chunk_size: int = CHUNK_SIZE, align: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> Explanations:  # fmt: skip
        """Shows where the network looked; the arguments are those of `lficam_jax.explain`.

        Without `align`, maps lie as the run's config says (`explain.align`).
        """
        found = explain(
            self.model, self.variables, images, preprocess=self.dataset, classes=self.classes,
            method=method, target=target, labels=labels, names=names, normalised=normalised,
            layer=layer, fuse=fuse, options=options,
            batch_size=batch_size, chunk_size=chunk_size, align=align or self.config.explain.align,
        )  # fmt: skip
        found.details = self.about | found.details
        return found

    def predict(
        self, images: Any, *, normalised: bool = False, batch_size: int = BATCH
    ) -> "Predictions":
        """Classifies images of any kind that `explain` takes; with the network's own maps.

        Raises:
          UserError: as `explain` does.
        """
        check_whole("batch_size", batch_size)
        inputs = read_inputs(images, self.dataset, normalised=normalised)
        methods = () if self.config.model.head == "plain" else ("own",)
        plan = Plan(Ours(self.model), methods)
        seen = look(plan, self.variables, inputs.images, batch_size=batch_size)
        own = seen.maps["own"][:, 0] if methods else None
        said = inputs.names, self.classes, seen.share, own
        return Predictions(*said, inputs.skipped, inputs.notes, kind_of(self.model))

    def measure(
        self, methods: str | Sequence[str] = (), *, limit: int = 1000, split: str = "test",
        measures: str | Sequence[str] = (), baseline: str = "mean", target: str = "",
        align: str = "",
    ) -> Measures:  # fmt: skip
        """Measures how faithful maps are, beside trivial ones (docs/measures.md).

        Args:
          methods: keys of `methods.METHODS`; default: own, grad_cam, score_cam.
          limit: images of the split, spread evenly.
          split: train, validation or test.
          measures: groups of measures; default: all but sensitivity.
          baseline: what a masked pixel shows: mean, black or blur.
          target: the class that is measured: predicted or label; default: predicted, or, of data
            that ask about one label of each picture (two_digits), `asked`.
          align: where maps lie on the picture: centres or half_pixel; default: as the config says.

        Raises:
          UserError: for an unknown name, or data that are not there.
        """
        limit = check_whole("limit", limit)
        check_word("split", split, SPLITS)
        session = Session(self, split, limit, words("methods", methods), align=align)
        groups = words("measures", measures)
        return Measures(faithfulness(session, groups, baseline=baseline, target=target))

    def export(self, to: str, out: str | Path = "", *, runtime: str | Path = "") -> list[Path]:
        """Writes the network in a format that others read (docs/export.md); returns the files.

        The arguments and errors are those of `explaining.export.export`: `to` is stablehlo, onnx,
        safetensors or page; `out` is the file; `runtime` is what a page runs with.

        Example:
          >>> import lficam_jax as lfi
          >>> run = lfi.load("runs/quickstart")
          >>> [path.name for path in run.export("safetensors", "mine/model.safetensors")]
          ['model.safetensors', 'config.json']
        """
        return export(self, to, out, runtime=runtime)

    def __repr__(self) -> str:
        classes = ", ".join(self.classes[:3]) + (", …" if len(self.classes) > 3 else "")
        of = counts.answers(self.dataset)
        of += f": {classes}" * (self.dataset.labels != "number")
        if self.name:
            return f"Run({self.name!r}: {self.title}, {of})"
        return f"Run({str(self.workdir)!r}: {self.title}, step {self.step}, {of})"


@dataclass(frozen=True, repr=False, eq=False)
class Predictions:
    """What the network says of images.

    Attributes:
      names: file names, or numbers.
      classes: class names, in the order of the probabilities.
      probabilities: of every class, summing to 1; of several labels, each its own; of a regression
        the numbers, `[n 1]`.
      maps: the network's own, in [0, 1] on the grid of its features; None for a plain network.
      skipped: files that could not be read, each with the reason; they have no row.
      notes: what is to be said of how each image was read; empty: nothing of any.
      kind: what the network answers: a `class`, `several` labels or a `number`.

    Example:
      >>> Predictions(["a.png"], ("cat", "dog"), np.array([[0.25, 0.75]]), None)
      image  class  probability
      a.png    dog        75.0%
    """

    names: list[str]
    classes: tuple[str, ...]
    probabilities: Float[np.ndarray, "n k"]
    maps: Float[np.ndarray, "n h w"] | None
    skipped: Sequence[tuple[str, str]] = ()
    notes: Sequence[tuple[str, ...]] = ()
    kind: str = "class"

    @property
    def predicted(self) -> list[Any]:
        """Of each image the most probable class, the list of its labels, or the number.

        A label counts from a probability of 0.5.
        """
        if self.kind == "number":
            return [float(value) for value in self.probabilities[:, 0]]
        found = [[self.classes[i] for i in answer.present] for answer in self._answers()]
        return found if self.kind == "several" else [name for (name,) in found]

    def _answers(self) -> list[Answer]:
        return [Answer(row, self.classes, self.kind) for row in self.probabilities]

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        names = distinct(self.names)
        told = zip(names, self._answers(), strict=True)
        rows = [(name, answer.text, answer.shares()) for name, answer in told]
        more = [f"… and {len(rows) - 12} more"] if len(rows) > 12 else []
        lost = [told_skipped(self.skipped)] if self.skipped else []
        table = aligned([("image", *heads(self.kind, self.classes)), *rows[:12]])
        shown = list(zip(names, self.notes, strict=False))[:12]
        notes = [f"{name}: {note}" for name, several in shown for note in several]
        return "\n".join([table, *more, *notes, *lost])
