"""Pins the vLLM from whose source constants and rules were read, in the planner and in the Jobs.

A docstring that names a file of vLLM means that file of READ, the newest version that runs without a GPU; tests/engine
hold the rules and constants against it. The chart serves SERVED, whose files were compared: every constant and rule is
the same there, but the grouping of KV caches lies in v1/core/kv_cache_planning.py, and a GB10 has the batch of a small
GPU.
Who raises either version compares the files that are named.
"""

READ = "0.32.0"
SERVED = "0.33.0"
