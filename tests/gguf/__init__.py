"""Quantization to GGUF with real models and llama.cpp's own programs, on the disk and on a real S3 server."""
