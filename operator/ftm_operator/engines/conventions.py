"""Holds what both engines' command lines agree on with the pods that run them."""

PORT = 8000
MODEL_DIRECTORY = "/model"
SHUTDOWN_SECONDS = 45
"""The time in which an engine may finish what is in flight."""
DRAIN_SECONDS = 15
"""The time in which a pod that is to end leaves its Service on every node."""
MOST_DRAIN_SECONDS = DRAIN_SECONDS + SHUTDOWN_SECONDS - 5
"""The time after which requests in flight are left to the engine's own shutdown."""
