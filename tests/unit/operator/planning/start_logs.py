"""Start-up logs of vLLM in the forms that its versions have had, of models in configs.yaml."""

V0 = """\
INFO 01-14 12:36:40 api_server.py:1043] vLLM API server version 0.8.5
INFO 01-14 12:36:41 llm_engine.py:240] Initializing a V0 LLM engine (v0.8.5) with config: \
model='mistralai/Mistral-7B-v0.1', speculative_config=None, dtype=torch.float16, max_seq_len=8192, \
tensor_parallel_size=1, pipeline_parallel_size=1, quantization=None, enforce_eager=False, kv_cache_dtype=auto, seed=0
INFO 01-14 12:36:52 worker.py:267] the current vLLM instance can use total_gpu_memory (39.38GiB) x \
gpu_memory_utilization (0.90) = 35.44GiB
INFO 01-14 12:36:52 worker.py:267] model weights take 13.50GiB; non_torch_memory takes 0.09GiB; PyTorch activation \
peak memory takes 0.39GiB; the rest of the memory reserved for KV Cache is 21.46GiB.
"""

V1 = """\
(APIServer pid=1) INFO 08-30 05:01:40 [api_server.py:1896] vLLM API server version 0.10.1.1
(APIServer pid=1) INFO 08-30 05:01:40 [utils.py:326] non-default args: {'model_tag': 'mistralai/Mistral-7B-v0.1', \
'model': 'mistralai/Mistral-7B-v0.1', 'max_model_len': 8192, 'gpu_memory_utilization': 0.9, 'max_num_seqs': 128, \
'tensor_parallel_size': 2}
(APIServer pid=1) INFO 08-30 05:01:45 [scheduler.py:222] Chunked prefill is enabled with max_num_batched_tokens=2048.
(EngineCore_0 pid=61) INFO 08-30 05:01:50 [core.py:74] Initializing a V1 LLM engine (v0.10.1.1) with config: \
model='mistralai/Mistral-7B-v0.1', speculative_config=None, tokenizer='mistralai/Mistral-7B-v0.1', \
dtype=torch.float16, max_seq_len=8192, load_format=auto, tensor_parallel_size=2, pipeline_parallel_size=1, \
quantization=None, enforce_eager=False, kv_cache_dtype=auto, seed=0
(VllmWorker TP0 pid=93) INFO 08-30 05:01:58 [gpu_model_runner.py:2007] Model loading took 6.7506 GiB and 3.2 seconds
(VllmWorker TP1 pid=94) INFO 08-30 05:01:58 [gpu_model_runner.py:2007] Model loading took 6.7606 GiB and 3.1 seconds
(VllmWorker TP0 pid=93) INFO 08-30 05:02:05 [gpu_worker.py:276] Available KV cache memory: 12.42 GiB
(VllmWorker TP1 pid=94) INFO 08-30 05:02:05 [gpu_worker.py:276] Available KV cache memory: 12.40 GiB
(EngineCore_0 pid=61) INFO 08-30 05:02:06 [kv_cache_utils.py:849] GPU KV cache size: 203,168 tokens
(EngineCore_0 pid=61) INFO 08-30 05:02:06 [kv_cache_utils.py:853] Maximum concurrency for 8,192 tokens per request: \
24.80x
(VllmWorker TP0 pid=93) INFO 08-30 05:02:16 [gpu_model_runner.py:2708] Graph capturing finished in 9 secs, took 0.48 GiB
(VllmWorker TP0 pid=93) INFO 08-30 05:02:16 [gpu_worker.py:392] Free memory on device (21.69/22.06 GiB) on startup. \
Desired GPU memory utilization is (0.9, 19.86 GiB). Actual usage is 6.76 GiB for weight, 0.38 GiB for peak activation, \
0.31 GiB for non-torch memory, and 0.48 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with \
`--kv-cache-memory=12902064128` to fit into requested memory.
(APIServer pid=1) INFO:     Application startup complete.
(APIServer pid=1) INFO Received request: prompt: 'Model loading took 99.0 GiB and 1 seconds, tensor_parallel_size=8'
"""

V2 = """\
(APIServer pid=1) INFO 11-23 05:01:40 [api_server.py:1880] vLLM API server version 0.33.0
(EngineCore pid=61) INFO 11-23 05:01:50 [core.py:134] Initializing a V1 LLM engine (v0.33.0) with config: \
model='/models/merged', speculative_config=None, dtype=torch.float16, max_seq_len=8192, tensor_parallel_size=1, \
pipeline_parallel_size=1, quantization=None, enforce_eager=True, kv_cache_dtype=fp8, seed=0
(EngineCore pid=61) INFO 11-23 05:01:58 [model_runner.py:425] Model loading took 13.5 GiB memory and 3.217000 seconds
(EngineCore pid=61) INFO 11-23 05:02:05 [gpu_worker.py:759] Available KV cache memory: 5.9 GiB
(EngineCore pid=61) INFO 11-23 05:02:06 [kv_cache_utils.py:2327] GPU KV cache size: 96,656 tokens, \
Maximum concurrency for 8,192 tokens per request: 11.80x
(EngineCore pid=61) INFO 11-23 05:02:06 [gpu_worker.py:1034] Free memory on device (21.69/22.06 GiB) on startup. \
Desired GPU memory utilization is (0.92, 20.3 GiB). Actual usage is 13.6 GiB for consumed memory (weights + \
non-torch), 0.31 GiB for peak activation, and 0.0 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with \
`--kv-cache-memory=6335076761` (5.9 GiB) to fit into requested memory. Current kv cache memory in use is 5.9 GiB.
"""
