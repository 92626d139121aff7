"""``infergc heap``: look into the heap of a running server."""
