"""What a run leaves behind: its folder, checkpoints, numbers and progress, here or in a bucket."""
