"""Decisions of a pass over a FineTunedAdapter, and which adapters the engines of a model are to hold. Pure."""
