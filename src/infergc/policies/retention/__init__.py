"""Retention: which cached pages stay when memory runs short."""
