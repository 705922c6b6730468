"""Decides which version of a model serves, which gets a share of the requests, and which are kept. Pure."""
