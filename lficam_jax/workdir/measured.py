"""Which checkpoint is the best: what was measured of each, in two copies with a checksum."""

import json
import logging
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from lficam_jax.data.files import plain_file
from lficam_jax.errors import UserError
from lficam_jax.workdir.damage import ABSENT
from lficam_jax.workdir.results import replace_text, teaching

log = logging.getLogger("lficam_jax.workdir.checkpoint")
# On the validation split; a network has one of them, of which the highest is the best, or (-1) the
# lowest.
METRICS = {"accuracy": 1, "mean_average_precision": 1, "mae": -1}


class Manager(ocp.CheckpointManager):  # type: ignore[misc]  # orbax is untyped
    """Orbax' manager, to which a step with damaged metrics is one that was not measured."""

    _told: frozenset[int] = frozenset()  # steps with damaged metrics

    def metrics(self, step: int) -> Any:
        """Returns the metrics of a step; None if it has none, or both copies of them are damaged.

        The item `meta` holds them too, and their checksum: a copy that fits it is the truth.

        Raises:
          UserError: if the system refuses to read them.
        """
        noted, whole = self._item(step, "meta", "metadata"), None
        if isinstance(noted, dict) and isinstance(noted.get("checksums"), dict):
            whole = noted["checksums"].get("metrics")
        if noted.get("metrics") == {} and whole in (None, checksum({})):
            return None  # was not evaluated
        found = self._item(step, "metrics", "metrics")
        for copy in (found, noted.get("metrics")):
            fits = checksum(copy) == whole if whole else copy == noted.get("metrics", copy)
            if fits and _is_measured(copy):
                return copy
        if step not in self._told:
            log.warning("the metrics of checkpoint %d are damaged; it counts as not measured", step)
            self._told |= {step}
        return None

    def note(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes what was measured of a step that is on disk.

        Killed between the two copies, the step counts as not measured.

        Raises:
          UserError: if they cannot be written.
        """
        folder = Path(self.directory) / str(step)
        noted = self._item(step, "meta", "metadata")
        noted |= {"metrics": dict(metrics)}
        noted["checksums"] = noted.get("checksums", {}) | {"metrics": checksum(metrics)}
        with teaching(folder):
            (folder / "metrics").mkdir(exist_ok=True)
            replace_text(folder / "metrics" / "metrics", json.dumps(dict(metrics)))
            replace_text(folder / "meta" / "metadata", json.dumps(noted))
        self.reload()

    def _item(self, step: int, *names: str) -> dict[str, Any]:
        """Returns a JSON file of a step; {} if it is damaged or absent."""
        path = Path(self.directory).joinpath(str(step), *names)
        try:
            found = json.loads(plain_file(path).read_text())
        except OSError as error:
            if error.errno not in ABSENT:
                raise UserError(f"cannot read {path}: {error.strerror}") from error
            return {}
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def checksum(metrics: Any) -> int:
    """Returns the CRC-32 of metrics, written as JSON in the order of their names."""
    return zlib.crc32(json.dumps(metrics, sort_keys=True).encode())


def _is_measured(metrics: Any) -> bool:
    values = [metrics.get(name) for name in METRICS] if isinstance(metrics, dict) else []
    return any(isinstance(value, int | float) and math.isfinite(value) for value in values)


def goodness(metrics: Mapping[str, float]) -> float:
    """Returns by what a checkpoint is compared with others: the higher, the better.

    >>> goodness({"accuracy": 0.5}), goodness({"mae": 3.0})
    (0.5, -3.0)
    """
    return next(sign * metrics[name] for name, sign in METRICS.items() if name in metrics)
