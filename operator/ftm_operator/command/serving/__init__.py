"""The commands of `ftm` that serve a model or ask one that is served."""
