"""What is measured at start: who holds memory, and the largest steps that a configuration allows."""
