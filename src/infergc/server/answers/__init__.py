"""Answers: from the engine's news to what clients read, whole or streamed."""
