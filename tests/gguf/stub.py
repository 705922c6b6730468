"""A llama.cpp whose programs fail as the real ones can: scripts in the places where a build has its programs."""

import sys
from pathlib import Path

REGISTRY = 'TEXT_MODEL_MAP: dict[str, str] = {"LlamaForCausalLM": "llama", "Qwen3ForCausalLM": "qwen"}\n'


def stub(folder: Path, converter: str = "", quantizer: str = "", importances: str = "") -> Path:
    """Each program is Python code that sees its arguments in sys.argv."""
    for place, code in {
        "bin/llama-quantize": quantizer,
        "bin/llama-imatrix": importances,
        "convert/convert_hf_to_gguf.py": converter,
    }.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{code}\n")
        path.chmod(0o755)
    (folder / "convert/conversion").mkdir()
    (folder / "convert/conversion/__init__.py").write_text(REGISTRY)
    (folder / "VERSION").write_text("stub\n")
    return folder


GGUF = """
import gguf
to = sys.argv[sys.argv.index("--outfile") + 1]
writer = gguf.GGUFWriter(to, "llama")
writer.add_block_count({layers})
writer.add_rope_freq_base({theta})
import numpy
writer.add_tensor("token_embd.weight", numpy.zeros(({rows}, 8), numpy.float16))
writer.add_token_list(["token"] * {rows})
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
"""


def writes_gguf(layers: int = 1, theta: float = 10000.0, rows: int = 32) -> str:
    """A converter that writes a file with this content, whatever the model is."""
    return GGUF.format(layers=layers, theta=theta, rows=rows)
