"""Which models do the requests made at random meet? A simulated one, and the real one for vectors, which is small.

A name made at random is of no model: all that lies behind the door would never be reached. So one run reads a document
in which the field `model` has a name of the catalog, and what only a certain model takes is as that model takes it.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from qosqueue.ops.first_run import EMBEDDING_CONTEXT_TOKENS, EMBEDDING_MEMORY_BYTES, EMBEDDING_NAME, MODEL_NAME
from qosqueue.service.catalog import Catalog
from qosqueue.settings import Settings
from qosqueue.store.schema import upgrade
from qosqueue.store.session import open_store

ACTOR = "test-fuzz"
# Longer than what a body can hold, so that no prompt is refused for its length.
CONTEXT_TOKENS = 1_000_000
SLOTS = 8
VECTOR_LENGTH = 384
# Words of random letters are a token for each letter.
LONGEST_TEXT = EMBEDDING_CONTEXT_TOKENS // 4
MOST_TEXTS = 4


def add_models(home: Path) -> None:
    """Fill the catalog of a home before `qosqueue up` would."""
    url = Settings(home=home, database_url=None).sql_url()
    upgrade(url)
    store = open_store(url)
    options = {"step_ms": 0, "step_ms_per_sequence": 0, "prefill_ms_per_token": 0}
    known: dict[str, Any] = {"actor": ACTOR, "slots": SLOTS}
    try:
        catalog = Catalog(store)
        catalog.add_model(
            MODEL_NAME, "simulated", memory_bytes=1_000_000, context_tokens=CONTEXT_TOKENS, options=options, **known
        )
        catalog.add_model(
            EMBEDDING_NAME,
            "sentence-bert",
            memory_bytes=EMBEDDING_MEMORY_BYTES,
            context_tokens=EMBEDDING_CONTEXT_TOKENS,
            **known,
        )
    finally:
        store.close()


def naming_models(document: dict[str, Any]) -> dict[str, Any]:
    """The document, with bodies that ask for a model that is there."""
    named = deepcopy(document)
    for name, schema in named["components"]["schemas"].items():
        if "model" in schema.get("required", ()) and schema.get("additionalProperties") is False:
            schema["properties"]["model"] = {"enum": [EMBEDDING_NAME if name == "EmbeddingBody" else MODEL_NAME]}
    fields = named["components"]["schemas"]["EmbeddingBody"]["properties"]
    text = {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT}
    fields["input"] = {"anyOf": [text, {"type": "array", "items": text, "minItems": 1, "maxItems": MOST_TEXTS}]}
    fields["dimensions"] = {"enum": [VECTOR_LENGTH, None]}
    return named
