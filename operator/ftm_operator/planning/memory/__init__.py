"""Bytes that one rank holds: weights, KV cache and reserves. Pure."""
