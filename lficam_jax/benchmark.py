"""`--mode benchmark`: how fast a config's programs are here, on random images and fresh weights."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from lficam_jax import optim
from lficam_jax.benchmark_data import loading
from lficam_jax.config import duration, nearest
from lficam_jax.data import dataset_info, normalise
from lficam_jax.errors import UserError
from lficam_jax.experiment import initial_variables, make_model
from lficam_jax.faithfulness import STEPS, Measurement, chosen
from lficam_jax.methods import METHODS, check, maps_of
from lficam_jax.parallel import AXIS, check_divides, over_rows, replicate, spmd
from lficam_jax.state import create_state
from lficam_jax.steps import make_train_step, predict
from lficam_jax.table import aligned
from lficam_jax.timing import compile_seconds, flops, in_turn, peak_flops, ratio

SECTIONS = ("forward", "methods", "measures", "train", "pipeline", "compile")
SECONDS = 6.0  # of rounds in each section; slow programs take at least three rounds
MAPS_BATCH = 8  # images per device for maps and measures; Score-CAM's cost hardly depends on it
Row = dict[str, Any]


def run(
    config: ConfigDict, sections: Sequence[str] = (), methods: Sequence[str] = (),
    measures: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Measures and prints one table as it goes on; asserts nothing.

    Args:
      config: whose network, sizes and batches are measured.
      sections: of `SECTIONS`; default: all.
      methods: keys of `methods.METHODS`; default: all that the network can give.
      measures: keys of `scoreboard.GROUPS`; default: all but the costly.

    Returns:
      `setting`, `rows` (section, name, batch, images_per_second, ms_per_image, ms, ratio) and
      `facts`, as they were printed.

    Raises:
      UserError: for an unknown section, method or measure.
    """
    for name in sections:
        if name not in SECTIONS:
            raise UserError(f"section {name!r} is unknown{nearest(name, SECTIONS)}")
    check(*methods)
    check_divides("train.batch_size", config.train.batch_size, jax.device_count())
    bench = Bench(config, methods, measures)
    for name in sections or SECTIONS:
        print(f"measuring {name} …", flush=True)
        getattr(bench, name)()
    found = {"setting": bench.setting(), "rows": bench.rows, "facts": bench.facts}
    print(f"\n{text(found)}")
    return found


def text(found: Mapping[str, Any]) -> str:
    """Writes what `run` found for people."""
    head = ["", "batch", "images/s", "ms/image", "ms", "ratio"]
    cells = [
        [f"{row['section']}: {row['name']}", str(row["batch"]), f"{row['images_per_second']:,.1f}",
         f"{row['ms_per_image']:.3f}", f"{row['ms']:.1f}", f"{row['ratio']:.3f}"]
        for row in found["rows"]
    ]  # fmt: skip
    lines = [f"{name:<{max(map(len, found['facts']))}}  {v}" for name, v in found["facts"].items()]
    note = "ms: median of one call; ratio: to the first row of its section, median over rounds"
    table = [aligned([head, *cells]), note] if cells else []
    return "\n".join([found["setting"], "", *table, "", *lines])


class Bench:
    """One config's network with fresh weights; each method measures one section into `rows`."""

    def __init__(self, config: ConfigDict, methods: Sequence[str], measures: Sequence[str]) -> None:
        self.config, self.info = config, dataset_info(config.data)
        self.model = make_model(config, self.info)
        self.rows: list[Row] = []
        self.facts: dict[str, str] = {}
        self._asked, self._measures = methods, measures
        # BatchNorm over all devices has no meaning in evaluation, where statistics are fixed.
        self._weights = initial_variables(self.model, config, self.info)
        self._variables = jax.device_put(self._weights)

    def setting(self) -> str:
        """Says what was measured, and on what."""
        model, device = self.config.model, jax.devices()[0]
        return (
            f"{model.backbone}-{model.depth}, {model.head} head, {model.dtype}, "
            f"{self.info.image_size} pixels; {jax.device_count()} x {device.device_kind} "
            f"({device.platform}); jax {jax.__version__}"
        )

    def forward(self) -> None:
        """Measures logits alone, with the own map, and without an attention head at all."""
        size = self.config.train.batch_size
        images = self._batch(size)["image"]
        programs = {"logits": self._over_rows(lambda out: out.logits, images)}
        if self.config.model.head != "plain":
            both = self._over_rows(lambda out: (out.logits, out.attention), images)
            programs |= {"logits and own map": both, "same backbone, plain head": self._plain(size)}
        self._measure("forward", programs, size)
        shape = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.uint8)
        lowered = jax.jit(self._predict).lower(self._variables, shape)
        self._utilisation("forward", flops(lowered), self.rows[-len(programs)])

    def methods(self) -> None:
        """Measures each map; those that the network cannot give are named, unless asked for."""
        size = MAPS_BATCH * jax.device_count()
        images, programs = self._batch(size)["image"], {}
        programs["logits"] = self._over_rows(lambda out: out.logits, images)
        for name in self._asked or METHODS:
            draw = over_rows(partial(self._draw, name))
            try:
                jax.eval_shape(draw, self._variables, images)
            except UserError as error:
                if self._asked:
                    raise
                self.facts[f"without {name}"] = str(error).split(";")[0]
                continue
            programs[name] = partial(draw, self._variables, images)
        self._measure("methods", programs, size)

    def measures(self) -> None:
        """Measures each group of measures: drawing one quick map and measuring it."""
        groups, note = chosen(self._measures, self.info.has_mask)
        if note:
            self.facts["measures"] = note
        size, pixels = MAPS_BATCH * jax.device_count(), self.info.image_size
        name = "grad_cam" if self.config.model.head == "plain" else "own"
        mask = np.zeros((size, pixels, pixels), bool)
        mask[:, : pixels // 2, : pixels // 2] = True
        programs = {}
        for group in ((), *([g] for g in groups)):
            measure = Measurement(self.model, self.info, group, "mean", STEPS)
            seen = measure.see(self._variables, self._batch(size))
            label = group[0] if group else f"{name} and one masked pass"
            programs[label] = partial(measure.rows, name, self._variables, seen, mask)
        self._measure("measures", programs, size)

    def train(self) -> None:
        """Measures one optimiser step, the batch copied from the host, as a run does."""
        size = self.config.train.batch_size
        images = self._batch(size)["image"]
        programs = {
            "logits": self._over_rows(lambda out: out.logits, images),
            "step": self._random_step,
        }
        self._measure("train", programs, size)
        lowered = self._lowered_step()
        self._utilisation("train step", flops(lowered), self.rows[-1], size // jax.device_count())

    def pipeline(self) -> None:
        """Measures the data alone and with the step, and how long the device waits for data."""
        try:
            loads, waited = loading(self)
        except (UserError, ImportError) as error:
            self.facts["pipeline"] = f"left out: {error}"
            return
        programs = {"step on random images": self._random_step, **loads}
        times = self._measure("pipeline", programs, self.config.train.batch_size)
        rounds = len(times["data and step"])
        share = sum(waited[-rounds:]) / sum(times["data and step"])
        self.facts["waiting for data"] = f"{share:.1%} of the time of data and step"

    def compile(self) -> None:
        """Measures tracing and compiling the step, and the memory that it takes."""
        seconds, compiled = compile_seconds(self._lowered_step)
        self.facts["compiling the step"] = (
            f"{seconds['cold']:.2f} s, from the persistent cache {seconds['warm']:.2f} s; "
            f"before that tracing {seconds['trace']:.2f} s"
        )
        size = compiled.memory_analysis()
        if size is not None:
            held, scratch = size.argument_size_in_bytes, size.temp_size_in_bytes
            self.facts["memory of the step"] = (
                f"{held / 2**20:,.1f} MiB of state and batch, {scratch / 2**20:,.1f} MiB "
                "of temporaries, on each device"
            )
        peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        if peak is not None:
            self.facts["peak memory"] = f"{peak / 2**20:,.1f} MiB, of this whole program"

    def stepper(
        self, load: Callable[..., Any], resident: Any, batch: Callable[[], Any]
    ) -> Callable[[], Any]:
        """Returns a program that takes one optimiser step on what `batch()` gives."""
        mode = self.config.parallel.mode
        step, state = self._step(load)
        mapped, held = spmd(step, mode, donate_state=True), [replicate(state, mode)]

        def program() -> Any:
            held[0], sums = mapped(held[0], resident, batch())
            return sums

        return program

    @cached_property
    def _random_step(self) -> Callable[[], Any]:
        batch = self._batch(self.config.train.batch_size)
        return self.stepper(self._load, {}, lambda: batch)

    def _step(self, load: Callable[..., Any]) -> tuple[Callable[..., Any], Any]:
        config = self.config
        total = duration(config.train, "total", 1000)
        tx = optim.optimizer(config.optim, optim.schedule(config.optim, 1000, total))
        state = create_state(self._weights, tx, ema=config.optim.ema_decay > 0)
        step = make_train_step(
            self.model, tx, load, seed=0, smoothing=config.optim.label_smoothing,
            accumulate=config.optim.accumulate, ema_decay=config.optim.ema_decay,
        )  # fmt: skip
        return step, state

    def _lowered_step(self) -> Any:
        """Lowers one device's share of the step."""
        step, state = self._step(self._load)
        body = jax.shard_map(
            partial(step, axis_name=AXIS), mesh=Mesh(np.array(jax.devices()[:1]), (AXIS,)),
            in_specs=(PartitionSpec(), PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(), check_vma=False,
        )  # fmt: skip
        batch = self._batch(self.config.train.batch_size // jax.device_count())
        return jax.jit(body, donate_argnums=0).lower(state, {}, batch)

    def _batch(self, size: int) -> dict[str, np.ndarray]:
        random, pixels = np.random.default_rng(0), self.info.image_size
        return {
            "image": random.integers(0, 256, (size, pixels, pixels, 3), np.uint8),
            "label": random.integers(0, self.info.num_classes, size, np.int32),
            "id": np.arange(size, dtype=np.int32),
        }

    def _load(self, resident: Any, batch: Any, key: Any) -> Any:
        return batch | {"image": normalise(batch["image"], self.info)}

    def _predict(self, variables: Any, images: Any) -> Any:
        return predict(self.model, variables, normalise(images, self.info)).logits

    def _draw(self, name: str, variables: Any, images: Any) -> Any:
        asked = {"key": jax.random.key(0)}
        return maps_of(name, self.model, variables, normalise(images, self.info), **asked)

    def _over_rows(self, take: Callable[[Any], Any], images: Any) -> Callable[[], Any]:
        def forward(variables: Any, images: Any) -> Any:
            return take(predict(self.model, variables, normalise(images, self.info)))

        return partial(over_rows(forward), self._variables, jax.device_put(images))

    def _plain(self, size: int) -> Callable[[], Any]:
        config = self.config.copy_and_resolve_references()
        config.model.head = "plain"
        images = self._batch(size)["image"]
        return Bench(config, (), ())._over_rows(lambda out: out.logits, images)

    def _measure(self, section: str, programs: Any, batch: int) -> dict[str, list[float]]:
        times = in_turn(programs, SECONDS)
        first = next(iter(times.values()))
        for name, seconds in times.items():
            each = median(seconds)
            self.rows.append({
                "section": section, "name": name, "batch": batch, "ms": 1e3 * each,
                "ms_per_image": 1e3 * each / batch, "images_per_second": batch / each,
                "ratio": ratio(seconds, first),
            })  # fmt: skip
        return times

    def _utilisation(self, name: str, count: float | None, row: Row, images: int = 1) -> None:
        if count is None:
            return
        peak, source = peak_flops(self.config.model.dtype)
        rate = count / images * row["images_per_second"] / jax.device_count()
        self.facts[f"FLOPs of the {name}"] = (
            f"{count / images / 1e9:.3f} G per image: {rate / 1e9:,.1f} GFLOP/s on each device, "
            f"{rate / peak:.1%} of {peak / 1e9:,.0f} ({source})"
        )
