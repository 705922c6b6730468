"""Publishes files as plain OCI images: the layers and documents of an image, and a client of registries."""
