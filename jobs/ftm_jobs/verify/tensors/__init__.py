"""Tensors of the models that are verified, read one at a time."""
