"""Builders of the objects that a FineTunedModel owns, one module per kind. Pure: (model, plan) -> dict."""
