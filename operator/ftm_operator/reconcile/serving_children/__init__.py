"""Decisions about what stands around serving pods: their number, what scales them, what leads to them. Pure."""
