"""Tiny real models and adapters of many families, and what PEFT makes of them."""
