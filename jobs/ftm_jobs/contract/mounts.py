"""Folders where pods mount what their steps read."""

CLAIMS = "/pvc"
"""Where a pod mounts the claim of pvc://claim/path: /pvc/claim."""
