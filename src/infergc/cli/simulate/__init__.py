"""``infergc simulate``: workloads under the engine itself, without a model."""
