"""Plain rounding, which a quantized model is held against."""
