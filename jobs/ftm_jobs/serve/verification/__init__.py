"""Holds an engine that serves a model against the reference that the model's verification has kept."""
