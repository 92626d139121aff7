"""Ordering: which waiting request is considered next."""
