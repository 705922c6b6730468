"""Holds the variable by which the `ftm` command tells a step that a person called it, and no Job."""

CALLED_BY = "FTM_CALLED_BY"
PERSON = "person"
