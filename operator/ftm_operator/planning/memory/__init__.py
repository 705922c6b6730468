"""Counts the bytes that one rank, and one pod, holds: weights, KV cache and reserves. Pure."""
