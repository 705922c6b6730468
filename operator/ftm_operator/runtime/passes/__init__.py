"""Runs passes: observes, has `reconcile` decide, and writes."""
