"""A trained network for those who do not run this package: weights, StableHLO, ONNX."""
