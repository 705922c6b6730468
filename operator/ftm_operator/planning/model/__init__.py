"""A model's architecture, read from its facts. Pure."""
