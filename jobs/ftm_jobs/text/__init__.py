"""Text for models: calibration, chat templates, tokenizers and blocks of tokens."""
