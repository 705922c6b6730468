"""Reads what adapters learned, matches it to a base, and says what an engine can serve unmerged."""
