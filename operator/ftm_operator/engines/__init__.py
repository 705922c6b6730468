"""Writes the engines' command lines, the same in a pod and under `ftm run`. Pure."""
