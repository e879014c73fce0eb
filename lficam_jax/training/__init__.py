"""One run from its config to its results: the loop, its steps, and exact evaluation."""
