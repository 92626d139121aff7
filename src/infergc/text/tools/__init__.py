"""Calls of functions in a model's text: one file for each way in which models write them."""
