"""How does a test get a language model that loads in a moment? A random one is written on the spot.

The file is a real llama-architecture GGUF of about half a million parameters: two layers, one character a token,
ChatML marks. Its weights are random, its text is noise, yet it takes the same way through llama.cpp as any model.
"""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter, TokenType

Floats = npt.NDArray[np.float32]

EMBEDDING, LAYERS, HEADS, FEED_FORWARD, CONTEXT = 128, 2, 4, 256, 4096
SEED = 20261123
# Dimension 0 of the residual stream is a constant that no layer writes to, so that a column of the output matrix
# acts as a bias: the model says letters only, never a broken UTF-8 byte and never the end mark.
BIAS_DIMENSION = 0
NEVER = -40.0
LETTERS = string.ascii_letters

_CONTROL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def write_tiny_gguf(path: Path) -> Path:
    """Write the model (about 2 MB, the same bytes each time) to `path` and return it; takes well under a second."""
    tokens = [*_CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS]
    kinds = [TokenType.UNKNOWN, *[TokenType.CONTROL] * 4, *[TokenType.BYTE] * 256, *[TokenType.NORMAL] * len(LETTERS)]
    writer = GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(place) for place in range(len(tokens))])
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(4)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    for name, tensor in _weights(len(tokens)).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights(vocabulary: int) -> dict[str, Floats]:
    """Tensors by their GGUF name, float32, shaped (rows out, columns in)."""
    random = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int) -> Floats:
        return random.normal(0.0, columns**-0.5, (rows, columns)).astype(np.float32)

    embedding = random.normal(0.0, 1.0, (vocabulary, EMBEDDING)).astype(np.float32)
    embedding[:, BIAS_DIMENSION] = 3.0
    output = 4.0 * matrix(vocabulary, EMBEDDING)
    output[:, BIAS_DIMENSION] = NEVER
    output[-len(LETTERS) :, BIAS_DIMENSION] = 0.0
    ones = np.ones(EMBEDDING, dtype=np.float32)
    tensors: dict[str, Floats] = {"token_embd.weight": embedding, "output_norm.weight": ones, "output.weight": output}
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        tensors |= {f"{block}.attn_{part}.weight": matrix(EMBEDDING, EMBEDDING) for part in ("q", "k", "v", "output")}
        tensors[f"{block}.ffn_gate.weight"] = matrix(FEED_FORWARD, EMBEDDING)
        tensors[f"{block}.ffn_up.weight"] = matrix(FEED_FORWARD, EMBEDDING)
        tensors[f"{block}.ffn_down.weight"] = matrix(EMBEDDING, FEED_FORWARD)
        for writes_to_stream in ("attn_output", "ffn_down"):
            tensors[f"{block}.{writes_to_stream}.weight"][BIAS_DIMENSION, :] = 0.0
        tensors |= {f"{block}.attn_norm.weight": ones, f"{block}.ffn_norm.weight": ones}
    return tensors
