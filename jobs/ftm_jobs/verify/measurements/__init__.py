"""Measures all that a report shows: files, tokens, answers and logits. No bound is known here."""
