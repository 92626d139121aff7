"""Scheduling: request states, the step plan and the scheduler. Knows no tensor, text or HTTP."""
