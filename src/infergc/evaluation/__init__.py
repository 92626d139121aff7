"""Evaluation: what a way of keeping KV costs in quality, through the paged decode path and beside full precision."""
