"""A torch file as the first checkpoint of a run."""

import copy
from pathlib import Path

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from lficam_jax.config import as_json, validate
from lficam_jax.data import dataset_info, resolved, split_table
from lficam_jax.errors import UserError
from lficam_jax.interop.torch import Imported, import_weights
from lficam_jax.interop.torch_file import load_torch_file
from lficam_jax.models.classifier import group
from lficam_jax.training.experiment import initial_variables, make_model, make_recipe
from lficam_jax.workdir.checkpoint import Checkpoints
from lficam_jax.workdir.folder import claim

SHOWN = 4  # names of the file that were not used


def import_run(path: Path | str, config: ConfigDict, workdir: Path | str) -> str:
    """Writes the weights of a torch file as step 0 of a new run.

    Args:
      path: as for `torch_file.load_torch_file`.
      config: of the network that the file holds.
      workdir: must hold no checkpoint.

    Returns:
      What was taken and what starts fresh, for people.

    Raises:
      UserError: if the file cannot be read or is of another network, or the folder is taken.
    """
    validate(config)
    info = dataset_info(config.data)
    model = make_model(config, info)
    state = load_torch_file(path)
    imported = import_weights(state, model, initial_variables(model, config, info))
    division, config = split_table(config.data), copy.deepcopy(config)
    config.data = resolved(config.data, info)
    claim(workdir, as_json(config), division)
    # What an optimiser remembers before its first step does not depend on how many will follow.
    recipe = make_recipe(config, steps_per_epoch=1)
    with Checkpoints(workdir, as_json(config)) as checkpoints:
        if checkpoints.manager.all_steps():
            raise UserError(f"{workdir} holds a run already; import into another --workdir")
        checkpoints.save(recipe.state(imported.variables))
        checkpoints.wait()
    return f"{Path(path).name} is step 0 of {workdir}\n{_told(imported)}"


def _told(imported: Imported) -> str:
    params = flatten_dict(
        jax.tree.map(lambda leaf: leaf.size, imported.variables["params"]), sep="/"
    )
    taken = {path: size for path, size in params.items() if group(path) not in imported.fresh}
    groups = ", ".join(dict.fromkeys(group(path) for path in taken))
    lines = [f"taken   {sum(taken.values()):,} of {sum(params.values()):,} parameters: {groups}"]
    if imported.wrappers:
        lines.append(f"names   without {' and '.join(imported.wrappers)} in front")
    if imported.fresh:
        lines.append(f"fresh   {', '.join(imported.fresh)} (random until trained)")
    if unused := imported.unused:
        more = f" and {len(unused) - SHOWN} more" if len(unused) > SHOWN else ""
        lines.append(f"unused  {', '.join(unused[:SHOWN])}{more}, which the model has no place for")
    return "\n".join(lines)
