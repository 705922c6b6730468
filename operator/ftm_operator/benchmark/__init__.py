"""`ftm bench`: requests to an OpenAI-compatible endpoint, what they took, and how that is shown."""
