"""Many devices and processes as one: mapping, agreement, signals and stuck steps."""
