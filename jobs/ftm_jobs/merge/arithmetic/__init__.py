"""Computes what adapters make of a weight's rows, exactly as PEFT does."""
