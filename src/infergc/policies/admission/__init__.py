"""Admission: what is expected of requests before another starts beside them."""
