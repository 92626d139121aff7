"""The mission's three scenarios in simulated time: how much memory each way of keeping KV needs."""
