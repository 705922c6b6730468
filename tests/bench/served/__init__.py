"""`make bench-serve`: the same prompts to each way of serving one fine-tuned model, its starts and its rollout."""
