"""The AWQ engines for real, each in an environment of its own, on models that a test can afford."""
