"""Builders of the children that serve a model. Pure."""
