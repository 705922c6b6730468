"""Holds the runs of commands that are longer than the commands' own modules."""
