"""Pure array functions: no state, no IO, no model."""
