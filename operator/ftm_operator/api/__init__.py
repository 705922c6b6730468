"""FineTunedModel as pydantic models, its CRD and its reference page. Does no I/O."""
