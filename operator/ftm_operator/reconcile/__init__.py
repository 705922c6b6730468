"""Decisions of a pass: the steps, what holds them, and the status that is written. Pure."""
