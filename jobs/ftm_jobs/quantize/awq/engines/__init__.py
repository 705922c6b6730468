"""The engines that search for AWQ scales, each importable in an image of its own, and the files that they write."""
