"""Rules that vLLM enforces when it starts. Pure."""
