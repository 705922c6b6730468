"""Adapters: their tensors, the changes they make, and whether they fit a base."""
