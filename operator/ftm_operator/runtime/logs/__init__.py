"""Reads the logs of pods, for the passes that ask for it."""
