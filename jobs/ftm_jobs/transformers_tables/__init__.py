"""Holds tables that are generated from transformers (`make tables`), for where transformers is not installed."""
