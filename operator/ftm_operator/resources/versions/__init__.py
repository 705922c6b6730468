"""Builds what keeps the versions of a model that have served, and what serves a new one beside the old one."""
