"""Checks that vLLM, or AWQ, makes whatever the memory: each is one function, named by its failure. Pure."""
