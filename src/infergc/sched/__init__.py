"""Scheduling: request states, the step plan and the scheduler. Knows no tensor, text or HTTP.

``Scheduler`` is one class in three files of which each inherits from the one before: seating (who runs), landing (what
steps brought), scheduler (what is computed next).
"""
