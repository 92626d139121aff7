"""Mutation testing: mistakes, the tests that could notice them, and trials."""
