"""Figures of a verification, and the bounds they are held against: computed without files, models and engines."""
