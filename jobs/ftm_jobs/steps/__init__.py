"""The steps of a build as commands: their arguments, and what each runs."""
