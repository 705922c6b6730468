"""Quantizing: what AWQ and GGUF share, and a package for each."""
