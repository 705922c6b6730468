"""A real Kubernetes for tests and for `make cluster`, without Docker: control plane, node, images, and what runs on it.

Nothing here imports the operator or its Jobs: the operator is reached as users reach it, by its images and its chart.
"""
