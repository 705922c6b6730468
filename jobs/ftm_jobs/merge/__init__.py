"""Merging: exactly PEFT's arithmetic, streamed through blocks of bounded memory."""
