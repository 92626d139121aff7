"""The planner: how many requests fit, how fast they go, and what would help, all found by simulating the engine."""
