"""Makes an engine hold the adapters that are wanted: the agent beside it, and the guard in front of it."""
