"""How does a test get a sentence model that loads in a moment? A random one is written on the spot.

A real BERT in the files that sentence-transformers writes, of two narrow layers; a word of WORDS is a token.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WIDTH, HEADS, INNER, LAYERS, LONGEST, SEED = 16, 4, 32, 2, 64, 20261125
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = tuple(f"word{number}" for number in range(60))
VOCABULARY = len(MARKS) + len(WORDS)


def write_tiny_bert(folder: Path) -> Path:
    """Write the model into `folder` (made if need be) and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": WIDTH,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer()))
    random = np.random.default_rng(SEED)

    def numbers(*shape: int) -> np.ndarray:
        return random.normal(0.0, 0.5, shape).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": numbers(VOCABULARY, WIDTH),
        "embeddings.position_embeddings.weight": numbers(LONGEST, WIDTH),
        "embeddings.token_type_embeddings.weight": numbers(2, WIDTH),
    }
    dense = {
        **{f"attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")},
        "attention.output.dense": (WIDTH, WIDTH),
        "intermediate.dense": (INNER, WIDTH),
        "output.dense": (WIDTH, INNER),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{place}" for place in range(LAYERS)):
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        for name, shape in dense.items():
            tensors |= {f"{layer}.{name}.weight": numbers(*shape), f"{layer}.{name}.bias": numbers(shape[0])}
    for name in norms:
        tensors |= {f"{name}.weight": 1 + numbers(WIDTH), f"{name}.bias": numbers(WIDTH)}
    save_file(tensors, folder / "model.safetensors")
    return folder


def _tokenizer() -> dict[str, object]:
    vocabulary = {word: number for number, word in enumerate((*MARKS, *WORDS))}
    marks = {mark: {"id": mark, "ids": [vocabulary[mark]], "tokens": [mark]} for mark in ("[CLS]", "[SEP]")}
    begin, text, end = (
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    )
    return {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, text, end],
            "pair": [begin, text, end],
            "special_tokens": marks,
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
