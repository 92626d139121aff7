"""Decoder-only transformers: weights and forward pass; they know no request and no heap."""
