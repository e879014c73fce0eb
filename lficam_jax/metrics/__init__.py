"""Measures of a map: pure and batched; sums are divided once, by the caller.

`bootstrap`, `crossed` and `pairs` say how sure they are, on the host, in numpy.
"""
