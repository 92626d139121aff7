"""The simulator: executors without tensors under the same engine loop. No scheduling, no allocation here."""
