"""vLLM in a process of its own: [[MODEL, [QUESTION, …], TEXT], …] on stdin, what it says on the last line of stdout.

No quantization is named: vLLM finds it in config.json. One process loads the models one after the other.
"""

import gc
import json
import os
import sys
from typing import Any

os.environ.update(
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_NO_USAGE_STATS="1",
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="2",
)


def main() -> None:
    from vllm import LLM, SamplingParams

    answers: list[dict[str, object]] = []
    for model, questions, text in json.load(sys.stdin):
        engine = LLM(model, enforce_eager=True, max_model_len=512)
        conversations: Any = [[{"role": "user", "content": question}] for question in questions]
        found = engine.chat(
            conversations,
            SamplingParams(temperature=0, max_tokens=40),
            use_tqdm=False,
        )
        quantization = engine.llm_engine.vllm_config.model_config.quantization
        answers.append({"quantization": quantization, "answers": [each.outputs[0].text for each in found]})
        if text:
            answers[-1]["nats"] = nats(engine, text)
        del engine
        gc.collect()
    print(json.dumps(answers))


def nats(engine: Any, text: str) -> float:
    """Mean negative log-likelihood of the text's tokens but the first."""
    from vllm import SamplingParams

    (found,) = engine.generate([text], SamplingParams(max_tokens=1, prompt_logprobs=0), use_tqdm=False)
    told = zip(found.prompt_token_ids[1:], found.prompt_logprobs[1:], strict=True)
    values: list[float] = [-places[token].logprob for token, places in told]
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
