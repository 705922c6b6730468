"""Builds what leads from a Gateway of the platform to a served model."""
