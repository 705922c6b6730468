"""The Jobs' pure parts: no store, no torch, milliseconds."""
