"""Measures of a map. Every function is pure and batched; sums are divided once, by the caller."""
