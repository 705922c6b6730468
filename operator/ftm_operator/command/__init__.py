"""The `ftm` command."""
