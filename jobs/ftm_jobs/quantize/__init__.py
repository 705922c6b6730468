"""Quantizes models: the artifact is made in one way, and AWQ and GGUF have a package each."""
