"""What measures maps on whole samples: one module per mode, and what the modes share."""
