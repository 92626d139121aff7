"""``infergc bench``: one file for each command."""
