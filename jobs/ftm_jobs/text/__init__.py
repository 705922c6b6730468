"""Turns text into what models see: calibration, chat templates, tokenizers and blocks of tokens."""
