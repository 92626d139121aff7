"""Measurements of the engine's parts on this machine: what ``infergc bench`` runs."""
