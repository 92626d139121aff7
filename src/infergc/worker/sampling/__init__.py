"""What a sampler is made of: per-slot state, adjustments of the logits, the draw, the report."""
