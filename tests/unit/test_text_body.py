"""Does a model for text say which requests it serves?"""

from __future__ import annotations

import pytest

from qosqueue_workers.engines.text_body import wrong_endpoint


@pytest.mark.parametrize(
    ("served", "told"),
    [
        (["/v1/embeddings"], "/v1/embeddings, not"),
        (
            ["/v1/chat/completions", "/v1/completions", "/v1/responses"],
            "/v1/chat/completions, /v1/completions and /v1/responses, not",
        ),
    ],
)
def test_all_that_it_serves_is_listed(served: list[str], told: str) -> None:
    assert f"this one serves {told} /v1/x;" in str(wrong_endpoint("/v1/x", *served))
