"""One SPMD function, mapped over the devices by `pmap` or by `shard_map` under jit: same numbers.

A step has the form `step(state, resident, batch, *, axis_name) -> pytree`. `state` and `resident`
are replicated, `batch` is split by rows, and everything that comes back is equal on all devices,
because the step reduces it over `axis_name`. Gradients are reduced as `pmean(grad(loss))`, which is
right in both mappings; with `shard_map`'s replication check on, it would silently be too large by
the number of devices.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lficam_jax.errors import UserError

AXIS = "batch"
Step = Callable[..., Any]


@dataclass(frozen=True)
class Mapped:
    """A step that runs on many devices at once; `spmd` makes it."""

    _mapped: Any  # under jit: the state, what is resident, and a batch placed on the devices
    _place: Callable[[Any], Any]  # from the host's rows [rows, ...]
    _placed: Callable[[Any], Any]  # the same for arrays that have a shape and no values

    def __call__(self, state: Any, resident: Any, batch: Mapping[str, np.ndarray]) -> Any:
        """Takes the step; `batch` holds the host's rows, `[rows, ...]`."""
        return self._mapped(state, resident, self._place(batch))

    def lower(self, state: Any, resident: Any, batch: Any) -> jax.stages.Lowered:
        """Lowers the step for arrays of these shapes; the devices need not be here."""
        lowered: jax.stages.Lowered = self._mapped.lower(state, resident, self._placed(batch))
        return lowered


def spmd(
    step: Step,
    mode: str,
    devices: Sequence[jax.Device] | None = None,
    *,
    donate_state: bool = False,
) -> Mapped:
    """Maps `step` over `devices`.

    Args:
      step: `step(state, resident, batch, *, axis_name)`; returns what is equal everywhere.
      mode: `pmap` or `shard_map`.
      devices: all of jax's by default.
      donate_state: let the outputs reuse the memory of `state`, which is gone afterwards.

    Returns:
      `mapped(state, resident, batch)`, where `batch` holds the host's rows, `[rows, ...]`.
    """
    devices = list(devices or jax.devices())
    donate = (0,) if donate_state else ()
    body = partial(step, axis_name=AXIS)
    if mode == "pmap":
        mapped = jax.pmap(
            body, axis_name=AXIS, in_axes=(None, None, 0), out_axes=None,
            devices=devices, donate_argnums=donate,
        )  # fmt: skip
        stack = partial(_stack, devices=_local(devices))
        return Mapped(mapped, stack, partial(jax.eval_shape, stack))
    mesh = Mesh(np.array(devices), (AXIS,))
    rows = PartitionSpec(AXIS)
    sharded = jax.shard_map(
        body, mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec(), rows),
        out_specs=PartitionSpec(), check_vma=False,
    )  # fmt: skip
    shard = partial(_shard, sharding=NamedSharding(mesh, rows))
    return Mapped(jax.jit(sharded, donate_argnums=donate), shard, lambda batch: batch)


def over_rows(
    fn: Callable[[Any, Any], Any], devices: Sequence[jax.Device] | None = None
) -> jax.stages.Wrapped:
    """Splits the rows of the second argument over `devices`; each works alone.

    Args:
      fn: `fn(variables, batch)`; what it returns has as many rows as `batch`.
      devices: all of jax's by default.

    Returns:
      The compiled `fn`; the rows must be a multiple of the devices.
    """
    rows = PartitionSpec(AXIS)
    mesh = Mesh(np.array(devices or jax.devices()), (AXIS,))
    mapped = jax.shard_map(
        fn, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, check_vma=False
    )
    return jax.jit(mapped)


def replicate(tree: Any, mode: str, devices: Sequence[jax.Device] | None = None) -> Any:
    """Copies a pytree to every device, in the placement that `spmd` of the same mode expects."""
    devices = list(devices or jax.devices())
    # pmap sees the devices of its own process only; a global array there breaks donation.
    mesh = Mesh(np.array(_local(devices) if mode == "pmap" else devices), (AXIS,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    if mesh.is_multi_process:  # where device_put would first compare all processes' values
        return jax.tree.map(partial(_everywhere, sharding=everywhere), tree)
    # A copy, for device_put may hand out the source's own buffer, which donation would then delete.
    copy = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)
    return jax.device_put(copy, everywhere)


def waits(devices: Sequence[jax.Device] | None = None) -> bool:
    """Tells whether each step must be waited for.

    Several virtual CPU devices share one thread pool; steps queued behind a collective starve it
    and jax 0.10 then aborts the process.
    """
    devices = list(devices or jax.devices())
    return devices[0].platform == "cpu" and len(devices) > 1


def check_divides(name: str, batch_size: int, devices: int, accumulate: int = 1) -> None:
    """Raises UserError if a batch cannot be split evenly, naming the nearest sizes that can."""
    parts = devices * accumulate
    if batch_size % parts == 0 and batch_size > 0:
        return
    below = batch_size // parts * parts
    sizes = f"{below} or {below + parts}" if below else f"{parts}"
    microbatches = f" x {accumulate} microbatches" if accumulate > 1 else ""
    raise UserError(
        f"{name} {batch_size} is not divisible by {devices} devices{microbatches}; use {sizes}"
    )


def _everywhere(leaf: Any, sharding: NamedSharding) -> jax.Array:
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _local(devices: Sequence[jax.Device]) -> list[jax.Device]:
    return [d for d in devices if d.process_index == jax.process_index()]


def _stack(batch: Mapping[str, np.ndarray], devices: Sequence[jax.Device]) -> Any:
    count = len(devices)
    return {k: v.reshape(count, v.shape[0] // count, *v.shape[1:]) for k, v in batch.items()}


def _shard(batch: Mapping[str, np.ndarray], sharding: NamedSharding) -> Any:
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}
