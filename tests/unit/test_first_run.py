"""Which models does a home get on its first start, and only then?"""

from __future__ import annotations

from pathlib import Path

import pytest

from qosqueue.ops import first_run
from qosqueue.service.catalog import Catalog
from qosqueue.store.session import open_store
from tests.support.tables import make_tables


def models_of_a_first_start(home: Path) -> list[str]:
    url = f"sqlite:///{home / 'qosqueue.db'}"
    make_tables(url)
    store = open_store(url)
    try:
        first_run.ensure_model(store)
        first_run.ensure_model(store)
        found = Catalog(store).list_models()
        for model in found[1:]:
            Catalog(store).remove_model(model.name, actor="test")
        first_run.ensure_model(store)
        assert [model.name for model in Catalog(store).list_models()] == [found[0].name]
    finally:
        store.close()
    return [f"{model.name} {model.engine} {model.weight_class}" for model in found]


def test_it_chats_and_embeds_where_both_are_installed(tmp_path: Path) -> None:
    chats, embeds = sorted(("smollm2 llama.cpp light", "all-minilm-l6-v2 sentence-bert light"), reverse=True)
    assert models_of_a_first_start(tmp_path) == [embeds, chats]


@pytest.mark.parametrize("missing", first_run.EMBEDDING_NEEDS)
def test_without_what_embeds_it_only_chats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(first_run, "_is_installed", lambda package: package != missing)
    assert models_of_a_first_start(tmp_path) == ["smollm2 llama.cpp light"]


def test_what_is_not_installed_is_known_as_such() -> None:
    assert first_run._is_installed("numpy")
    assert not first_run._is_installed("a-package-that-nobody-has-made")
