"""How a model will be built and served, worked out from its facts. Pure: imports nothing that does I/O."""
