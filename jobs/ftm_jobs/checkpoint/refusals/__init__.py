"""Words refusals of checkpoints by name: kinds of adapters, missing files, files that are something else."""
