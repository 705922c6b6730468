"""Rounds plainly: the yardstick that a quantized model is held against."""
