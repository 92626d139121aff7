"""What a step runs on: the host or an NVIDIA GPU, its memory and the copies within it."""
