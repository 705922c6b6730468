"""Reads a model's architecture from its facts. Pure."""
