"""Paths that are treated apart: by keys, by the crowd, by logs."""

OPEN_PATHS = frozenset({"/health", "/health/ready", "/health/live"})  # no key is asked for
WATCHED_PATHS = OPEN_PATHS | {"/metrics"}  # asked every few seconds by who watches
ADMIN_PATHS = "/v1/kv/"  # and whatever follows
