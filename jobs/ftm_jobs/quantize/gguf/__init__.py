"""Quantizes to GGUF for llama.cpp, by its own converter and quantizer."""
