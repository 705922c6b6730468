"""The operator and the `ftm` command."""
