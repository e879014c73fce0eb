"""timm's networks on the Hugging Face hub: the weights, and how their pictures are fed."""

import hashlib
import json
from pathlib import Path
from typing import Any

from lficam_jax.config.size import as_size
from lficam_jax.data.files import plain_file
from lficam_jax.errors import UserError

WEIGHTS, FED = "model.safetensors", "config.json"


def fetch(repo: str, file: str) -> Path:
    """Returns a file of a repository, downloaded once to the hub's own cache and checked.

    Args:
      repo: such as `timm/resnet50.a1_in1k`.
      file: its name there.

    Raises:
      UserError: if `huggingface_hub` is not installed, the file cannot be had, or its SHA-256 is
        not the hub's.
    """
    try:
        import huggingface_hub as hub
    except ImportError:
        raise UserError(
            f"{repo} comes from the Hugging Face hub: pip install 'lficam_jax[timm]', or bring "
            f"{WEIGHTS} and {FED} of huggingface.co/{repo} in one folder and say --from FILE"
        ) from None
    try:
        path = Path(hub.hf_hub_download(repo, file))
    except Exception as error:  # of its own, of the network, of the disk
        raise UserError(
            f"cannot get {file} of huggingface.co/{repo} ({type(error).__name__}); is that its "
            f"name? Or bring {WEIGHTS} and {FED} in one folder and say --from FILE"
        ) from error
    expected = _published(repo, file)
    if expected and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise UserError(
            f"{path} is not the file that huggingface.co/{repo} holds (SHA-256 differs)"
        )
    return path


def _published(repo: str, file: str) -> str:
    """Returns the SHA-256 that the hub tells; '' of small files and without a network."""
    import huggingface_hub as hub

    try:
        (found,) = hub.HfApi().get_paths_info(repo, [file])
    except Exception:  # the file is there already, and was checked when it came
        return ""
    return found.lfs.sha256 if found.lfs else ""


def fed_as(path: Path) -> dict[str, Any]:
    """Returns how timm's `config.json` says that pictures are fed, in the words of `Pretrained`.

    Raises:
      UserError: if it is not there, or says something else.
    """
    try:
        told = json.loads(plain_file(path).read_text(encoding="utf-8"))
        told = told.get("pretrained_cfg", told)
        _, height, width = told["input_size"]
        if told.get("crop_mode", "center") != "center":
            raise UserError(f"{path}: pictures that are not cut from the centre are not known")
        return {
            "image_size": as_size((int(height), int(width))), "crop_share": float(told["crop_pct"]),
            "interpolation": str(told["interpolation"]), "mean": tuple(told["mean"]),
            "std": tuple(told["std"]),
        }  # fmt: skip
    except FileNotFoundError:
        raise UserError(
            f"{path.name} is missing beside {path.parent}/{WEIGHTS}; it says how pictures are fed"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no config of timm's: {type(error).__name__} {error}") from None
