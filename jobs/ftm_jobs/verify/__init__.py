"""Verifying: whether what would be served is what was trained."""
