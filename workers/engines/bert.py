"""What is the vector of a sentence? A BERT encoder in numpy: mean of its last layer over the tokens, length 1.

The arithmetic of `transformers.BertModel` (post-norm, exact GELU) and of sentence-transformers' mean pooling, in
float32, for batches of a few dozen short texts. Why not torch or onnx: docs/adr/0011.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

Floats = npt.NDArray[np.float32]

# Beyond any score of attention: what stands behind a text's end counts for nothing.
MASKED = np.float32(-1e9)
# Abramowitz and Stegun 7.1.26: erf within 1.5e-7, which is float32's own precision.
_ERF = tuple(map(np.float32, (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)))
_ERF_T = np.float32(0.3275911)
_HALF_ROOT = np.float32(0.7071067811865476)


@dataclass(frozen=True)
class _Layer:
    """Weights of one layer, each matrix as (columns in, columns out)."""

    qkv: Floats
    qkv_bias: Floats
    out: Floats
    out_bias: Floats
    out_norm: tuple[Floats, Floats]
    widen: Floats
    widen_bias: Floats
    narrow: Floats
    narrow_bias: Floats
    norm: tuple[Floats, Floats]


class Bert:
    """The encoder in a folder as sentence-transformers saves one: `config.json` and `model.safetensors`.

    Raises OSError, KeyError or ValueError for a folder that holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
            raise ValueError(f"expected a BERT with GELU, got {config['model_type']} with {config['hidden_act']}")
        tensors = {name.removeprefix("bert."): each for name, each in load_file(folder / "model.safetensors").items()}
        self._heads = int(config["num_attention_heads"])
        self._eps = np.float32(config["layer_norm_eps"])
        self._words = tensors["embeddings.word_embeddings.weight"]
        self._positions = tensors["embeddings.position_embeddings.weight"]
        self._type = tensors["embeddings.token_type_embeddings.weight"][0]
        self._norm = _norm(tensors, "embeddings.LayerNorm")
        self._layers = [_layer(tensors, place) for place in range(int(config["num_hidden_layers"]))]
        self.dimensions = int(config["hidden_size"])
        self.longest = len(self._positions)
        self.vocabulary = len(self._words)

    def embed(self, texts: Sequence[Sequence[int]]) -> Floats:
        """The vectors (texts, dimensions) of token lists, each with its special tokens, at most `longest` long."""
        lengths = np.array([len(text) for text in texts])
        # Rows of `hidden` are the tokens of all texts, one behind the other; only attention pads them to one length.
        there = np.arange(lengths.max()) < lengths[:, None]
        places = np.nonzero(there)[1]
        hidden = self._words[np.concatenate([np.asarray(text) for text in texts])] + self._positions[places]
        hidden = self._normalized(hidden + self._type, self._norm)
        for layer in self._layers:
            hidden = self._normalized(hidden + self._attention(hidden, layer, there), layer.out_norm)
            wide = _gelu(hidden @ layer.widen + layer.widen_bias)
            hidden = self._normalized(hidden + (wide @ layer.narrow + layer.narrow_bias), layer.norm)
        begins = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        mean = np.add.reduceat(hidden, begins, axis=0) / lengths[:, None].astype(np.float32)
        vectors: Floats = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), np.float32(1e-12))
        return vectors

    def _attention(self, hidden: Floats, layer: _Layer, there: npt.NDArray[np.bool_]) -> Floats:
        (texts, length), width = there.shape, hidden.shape[1]
        padded = np.zeros((texts, length, 3 * width), dtype=np.float32)
        padded[there] = hidden @ layer.qkv + layer.qkv_bias
        parts = padded.reshape(texts, length, 3, self._heads, width // self._heads)
        query, key, value = parts.transpose(2, 0, 3, 1, 4)
        scores = query @ key.swapaxes(-1, -2)
        scores *= np.float32((width // self._heads) ** -0.5)
        scores += np.where(there, np.float32(0), MASKED)[:, None, None, :]
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = (scores @ value).swapaxes(1, 2).reshape(texts, length, width)
        answer: Floats = mixed[there] @ layer.out + layer.out_bias
        return answer

    def _normalized(self, hidden: Floats, norm: tuple[Floats, Floats]) -> Floats:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + self._eps)
        answer: Floats = centred / spread * norm[0] + norm[1]
        return answer


def _gelu(x: Floats) -> Floats:
    """x · Φ(x), exact but for float32; in place where it can be, for this is as much work as the matrices."""
    z = np.abs(x)
    z *= _HALF_ROOT
    t = z * _ERF_T
    t += np.float32(1)
    np.reciprocal(t, out=t)
    # Φ(-|x|) = tail / 2, the polynomial in t by Horner's rule.
    tail = t * _ERF[-1]
    for factor in _ERF[-2::-1]:
        tail += factor
        tail *= t
    np.multiply(z, z, out=z)
    np.negative(z, out=z)
    np.exp(z, out=z)
    tail *= z
    tail *= np.float32(0.5)
    np.subtract(np.float32(1), tail, out=tail, where=x >= 0)
    tail *= x
    return tail


def _norm(tensors: dict[str, Floats], name: str) -> tuple[Floats, Floats]:
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def _layer(tensors: dict[str, Floats], place: int) -> _Layer:
    def matrix(*names: str) -> Floats:
        rows = np.concatenate([tensors[f"encoder.layer.{place}.{name}.weight"] for name in names])
        return np.ascontiguousarray(rows.T)

    def bias(*names: str) -> Floats:
        return np.concatenate([tensors[f"encoder.layer.{place}.{name}.bias"] for name in names])

    three = [f"attention.self.{name}" for name in ("query", "key", "value")]
    return _Layer(
        qkv=matrix(*three),
        qkv_bias=bias(*three),
        out=matrix("attention.output.dense"),
        out_bias=bias("attention.output.dense"),
        out_norm=_norm(tensors, f"encoder.layer.{place}.attention.output.LayerNorm"),
        widen=matrix("intermediate.dense"),
        widen_bias=bias("intermediate.dense"),
        narrow=matrix("output.dense"),
        narrow_bias=bias("output.dense"),
        norm=_norm(tensors, f"encoder.layer.{place}.output.LayerNorm"),
    )
