"""Merges adapters into a base: exactly PEFT's arithmetic, streamed through blocks of bounded memory."""
