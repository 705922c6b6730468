"""Readings of live objects: Jobs, pods, rollouts, drift and references. Pure."""
