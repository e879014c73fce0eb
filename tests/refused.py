"""What tests of bad input say: one clear error, which names the cause."""

import pytest

import lficam_jax as lfi


def refused(says, call, *args, **options):
    """Checks that a call ends in a `UserError` of these words."""
    with pytest.raises(lfi.UserError, match=says):
        call(*args, **options)
