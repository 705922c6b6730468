"""Folders where pods mount what their steps read."""

CLAIMS = "/pvc"
"""Folder of the claims that a pod mounts: that of pvc://claim/path is /pvc/claim."""
