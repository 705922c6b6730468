"""Holds a command for each step of a build: its arguments, and the run that makes a report of them."""
