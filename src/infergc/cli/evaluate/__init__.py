"""``infergc eval``: what a way of keeping KV costs in quality."""
