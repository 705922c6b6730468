"""FineTunedModel as pydantic models, its CRD and its reference page. Imports no client and does no I/O."""
