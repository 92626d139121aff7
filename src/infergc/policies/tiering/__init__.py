"""Tiering: whether KV that lies below the device is read from there."""
