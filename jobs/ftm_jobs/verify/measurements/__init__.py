"""Everything that a verification measures: files, tokens, answers and logits. No bound is known here."""
