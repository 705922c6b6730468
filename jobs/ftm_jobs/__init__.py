"""Runs inside Jobs and serving pods, and imports nothing of the operator."""
