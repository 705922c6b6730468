"""Kinds of GPU that a model may be placed on. Pure."""
