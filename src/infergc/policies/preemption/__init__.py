"""Preemption: which running request gives way when memory runs short."""
