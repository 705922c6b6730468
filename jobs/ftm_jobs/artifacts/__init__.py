"""Artifacts: manifests, publishing, fetching, and the catalogue of a store."""
