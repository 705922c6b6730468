"""Verifies that what would be served is what was trained."""
