"""Holds the engines that search for AWQ scales, each importable in an image of its own, and what they share."""
