"""Chooses the GPUs that a model is served on, how many of them, and the context; says why, or what would fit. Pure."""
