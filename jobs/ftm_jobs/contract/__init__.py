"""Agreements between the operator and its Jobs: facts, reports, manifests and keys. The operator imports this alone."""
