"""Holds what both engines' command lines agree on with the pods that run them."""

PORT = 8000
MODEL_DIRECTORY = "/model"
SHUTDOWN_SECONDS = 45
"""The time in which an engine may finish what is in flight."""
