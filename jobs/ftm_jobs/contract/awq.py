"""The models that AWQ engine autoawq is known to work for."""

AUTOAWQ_MODEL_TYPES = (
    "cohere",
    "gemma",
    "gemma2",
    "llama",
    "mistral",
    "phi3",
    "qwen2",
    "qwen3",
    "stablelm",
)
"""config.json's model_type where engine autoawq is known to work: AutoAWQ 0.2.9 knows it (awq/models/auto.py), its
transformers loads it and vLLM reads the result; for the others there is llm-compressor.

Fewer than AutoAWQ names: where it scales an activation (starcoder2, falcon, …) there would be a weight that no engine
reads, and of experts some would see no text."""
