"""Quantizes to AWQ for vLLM, by AutoAWQ or llm-compressor."""
