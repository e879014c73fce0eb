"""LFI-CAM and its rivals in JAX: classifiers that show where they looked."""

__version__ = "0.1.0"
