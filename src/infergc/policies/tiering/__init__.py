"""Tiering: whether KV is copied, to a lower tier or from there, or computed."""
