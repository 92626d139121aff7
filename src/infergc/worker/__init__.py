"""The worker: carries out step plans with tensors (executor, batch, storage, sampler, loader)."""
