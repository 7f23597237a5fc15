"""Is there the model that a tenant asked for?"""

from __future__ import annotations

from qosqueue.errors import NotFound
from qosqueue.policy.refusal import Refusal
from qosqueue.service.catalog import Catalog
from qosqueue.store.records import Model

SHOWN_CHARACTERS = 128


def find_model(catalog: Catalog, name: str) -> Model | Refusal:
    """The model of that name; one that is switched off is as unknown as one that never was.

    Raises StoreUnavailable.
    """
    try:
        model = catalog.get_model(name)
    except NotFound:
        model = None
    if model is None or not model.enabled:
        return Refusal(
            404,
            "model_not_found",
            f"There is no model {name[:SHOWN_CHARACTERS]!r}; GET /v1/models lists all.",
            param="model",
        )
    return model
