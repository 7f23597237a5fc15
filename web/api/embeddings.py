"""How are texts turned into vectors while the client waits?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response
from flask_openapi.blueprint import APIBlueprint

from qosqueue.service.embedding_body import EmbeddingBody
from qosqueue_web.api.answering import respond
from qosqueue_web.api.answers import EmbeddingList, JobAnswer
from qosqueue_web.api.queries import PreferHeader

if TYPE_CHECKING:
    from qosqueue.wiring import Services


def add_embeddings(api: APIBlueprint, services: Services) -> None:
    """Add /v1/embeddings."""

    @api.post(EmbeddingBody.endpoint, operation_id="createEmbedding", responses={200: EmbeddingList, 202: JobAnswer})
    def create_embedding(header: PreferHeader, body: EmbeddingBody) -> Response:
        """Turn texts into vectors."""
        return respond(services, body)
