"""Plans how a model is built and served, from its spec, its facts and the GPUs that exist. Pure: does no I/O.

The model. A decision names the engine and the quantization. With vLLM on known kinds of GPU, a sizing chooses the kind,
the layout (tensor-parallel ranks inside pipeline stages) and the context; a plan is both, each choice with its reason
and each rejected layout with the rule that it breaks. Packages import downward alone: answer > plan > gpu_plan >
feedback > input_hashes > decision, sizing > memory > rules > gpus, model (the contract `planning-layers`).

The formulae, in bytes of the rank that holds most:

    budget = usable · utilization / pods that share the GPU
    budget >= weights + reserves + LoRA slots + correction + KV cache

    weights        memory/weights.py       each tensor as vLLM divides or replicates it, packed by the scheme
    reserves       memory/reserves.py      formulae and measured constants, by the engine's version; the most counts
    KV cache       memory/kv_cache.py      vLLM's; memory/llama_cpp.py: llama-server's
    correction     feedback/               what an engine held beyond the estimate, of the same artifact and sizes
    pod            memory/host.py          processors, memory and shared memory besides GPUs

The choice (sizing/choice.py): the fewest GPUs that hold `concurrency` requests of the whole context, then the fewest
nodes, then the cost order, then the order in which kinds are given. Every layout that breaks a rule is left out first.

Example: Mistral-7B-v0.1 in float16 at 8192 tokens on nodes with four A10G. One rank: 13.49 GiB of weights, 2.17 of
reserves and 8 · 8192 tokens · 128 KiB = 8.02 of KV cache are 23.68 GiB, more than 92 % of 22.06. Two ranks: 6.74, 3.17
and 4.01 fit 20.30 GiB, and 32 heads and 8 key-value heads divide by 2. So it takes two.

Invariants, each a test in tests/unit/operator/planning/test_properties.py:

    more memory never makes a plan impossible, nor larger
    a shorter context or fewer requests never need more GPUs
    an engine that was measured to hold more never gets fewer GPUs
    the chosen layout breaks no rule, and holds what is asked
    the order of kinds that differ does not matter

`ftm plan` prints what the operator would do, from the same function (plan.plan).
"""
