"""The configuration: every key with its meaning, the checks, and the one rule for durations.

A file in `configs/` starts from `default_config()`, sets what differs and ends with
`return finish(config, smoke)`.
"""

from lficam_jax.config.checks import CHOICES, DURATIONS, NUMBERS, multipliers, validate
from lficam_jax.config.keys import as_json, default_config
from lficam_jax.config.options import duration, finish, options, smoke

__all__ = [
    "CHOICES",
    "DURATIONS",
    "NUMBERS",
    "as_json",
    "default_config",
    "duration",
    "finish",
    "multipliers",
    "options",
    "smoke",
    "validate",
]
