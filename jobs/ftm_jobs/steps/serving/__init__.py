"""The commands that run beside a serving engine, in its pod."""
