"""`lficam sanity`: does a map change when what the network learnt is taken away, layer by layer?"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lficam_jax.explaining.session import Session
from lficam_jax.measure.observe import HostBatch, Observer, Seen
from lficam_jax.measure.resemblance import Found, leave, summarise, table
from lficam_jax.metrics.sanity import cascade, parameter_randomisation
from lficam_jax.models.classifier import init_variables
from lficam_jax.structs import Variables

STATISTICS = ("spearman", "ssim")
EXAMPLES = 3  # on the picture


def run(session: Session) -> int:
    """Measures; prints how like the maps stay, writes `results/sanity.{json,csv,png}`.

    The argument and errors are those of `sanity`.
    """
    observer, fresh = Observer.of(session), fresh_weights(session)
    result = sanity(session, observer, fresh)
    few = session.few(min(EXAMPLES, len(session.sample)))
    looks = gallery(observer, session.variables, fresh, next(few.batches(session.size)))
    found = result["stages"]
    leave(session, "sanity", result, found, told(found), looks, len(few), over=False)
    return 0


def sanity(
    session: Session, observer: Observer | None = None, fresh: Variables | None = None
) -> dict[str, Any]:
    """Randomises the network from the top down: each stage's maps beside the trained network's.

    Args:
      session: which run, pictures and methods.
      observer: of the session, where its programs are used again.
      fresh: what the trained weights are replaced by; default: `fresh_weights`.

    Returns:
      What `results/sanity.json` says; `stages` is a `resemblance.Found`.

    Raises:
      UserError: for a method that the model cannot give.
    """
    observer, trained = observer or Observer.of(session), session.variables
    fresh = fresh or fresh_weights(session)
    pace, parts = session.pace(), []
    for batch in session.batches():
        classes = np.asarray(observer.look(trained, batch)["class"])

        def explain(
            variables: Variables, _: Any, batch: Any = batch, classes: np.ndarray = classes
        ) -> Any:
            return observer.look(variables, batch, classes)["maps"]

        images = jnp.asarray(batch["image"])
        asked = explain, trained, fresh, images, session.places
        rows = jax.device_get(parameter_randomisation(*asked))
        parts.append(jax.tree.map(lambda v, keep=batch["valid"]: v[keep], rows))
        pace.tick("sanity")
    rows = jax.tree.map(lambda *values: np.concatenate(values), *parts)
    found = {
        stage: {"network": {}, "methods": {m: _summary(rows[stage][m]) for m in observer.methods}}
        for stage, _ in cascade(trained, fresh)  # jax sorts the keys of a dictionary
    }
    return session.result({"class": "predicted, then frozen", "stages": found})


def fresh_weights(session: Session) -> Variables:
    """Draws other weights for the network of a run, with its seed plus 1."""
    shape, seed = (*session.info.size, 3), session.run.config.seed + 1
    return dict(init_variables(session.run.model, shape, seed))


def gallery(
    observer: Observer, trained: Variables, fresh: Variables, batch: HostBatch
) -> dict[str, Seen]:
    """Explains a batch by the trained network and by each stage of the cascade."""
    first = jax.device_get(observer.look(trained, batch))
    return {"trained": first} | {
        stage: jax.device_get(observer.look(variables, batch, first["class"]))
        for stage, variables in cascade(trained, fresh)
    }


def told(found: Found) -> str:
    """Writes the tables of `found` and what their numbers are."""
    return (
        f"\n{table(found, STATISTICS)}\n"
        "value ± half of the 95 % bootstrap interval over images; to the map of the trained "
        "network, for the class that it predicts.\n"
        "head: what draws the attention (FIN) alone is fresh; the other rows: fresh from the "
        "classifier down to the row's name,\nthe head as trained. A map that stays near 1 down to "
        "the stem shows the picture, not what was learnt. (in brackets: maps that know nothing)"
    )


def _summary(rows: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        "constant": int(rows["constant"].sum()),
        "not_finite": int((~np.isfinite(rows["ssim"])).sum()),
        "statistics": summarise({statistic: rows[statistic] for statistic in STATISTICS}),
    }
