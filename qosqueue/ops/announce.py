"""What does somebody need to be told to use a system that has just come up?"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from qosqueue.ops.first_run import ADMIN_NAME, People
from qosqueue.settings import Settings

QUESTION = "What is the capital of France?"


def base_url(settings: Settings) -> str:
    """URL at which this machine reaches the web server; an address that means "all" is reached by loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def ready_line(settings: Settings) -> str:
    """The line for scripts."""
    return f"ready {base_url(settings)}"


def ready_json(settings: Settings, people: People) -> str:
    """The same for scripts that also want the secrets of a first start, as one line of JSON."""
    return json.dumps(
        {
            "ready": base_url(settings),
            "admin": {"url": _admin_url(settings), "name": ADMIN_NAME, "password": people.admin_password},
            "keys": {key.tenant: key.key for key in people.keys},
        }
    )


def guide(settings: Settings, people: People, tenants: Sequence[str]) -> str:
    """The text for people: the admin page and its password, keys, and two snippets that work as pasted."""
    lines = [
        f"admin page   {_admin_url(settings)}",
        *_password_lines(settings, people),
        *_key_lines(settings, people),
        "",
        *_snippets(settings, people, tenants),
        "",
        f"logs         {settings.home / 'logs'}",
        "Ctrl-C drains and stops everything.",
    ]
    return "\n".join(lines)


def _admin_url(settings: Settings) -> str:
    return f"{base_url(settings)}/admin/"


def _password_lines(settings: Settings, people: People) -> list[str]:
    if people.admin_password is None:
        return [
            "password     was shown once, on the first start; only its argon2 hash is kept. "
            f"Another account: {_command(settings, 'user', 'create', '--help')}"
        ]
    return [
        f"login        {ADMIN_NAME}",
        f"password     {people.admin_password}",
        "             (made at random on this first start, shown only now; only its argon2 hash is kept)",
    ]


def _key_lines(settings: Settings, people: People) -> list[str]:
    if not people.keys:
        return [f"tenant key   {_command(settings, 'key', 'create', '--tenant', 'NAME')}"]
    return ["tenant keys  (shown only now; only their hashes are kept)"] + [
        f"  {key.tenant:<16} {key.key}" for key in people.keys
    ]


def _snippets(settings: Settings, people: People, tenants: Sequence[str]) -> list[str]:
    if people.keys:
        key_line = f"export KEY={people.keys[0].key}"
    elif tenants:
        make_key = _command(settings, "key", "create", "--tenant", tenants[0], "--json")
        take_key = f"{shlex.quote(sys.executable)} -c 'import json, sys; print(json.load(sys.stdin)[\"key\"])'"
        key_line = f"export KEY=$({make_key} | {take_key})"
    else:
        make_tenant = _command(settings, "tenant", "create", "NAME", "--tier", "vip")
        return [f"There is no tenant yet: {make_tenant}"]
    body = json.dumps(
        {"model": settings.default_model, "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]}
    )
    return [
        "In a shell:",
        "",
        f"    {key_line}",
        f'    curl -s {base_url(settings)}/v1/chat/completions -H "Authorization: Bearer $KEY" '
        f"-H 'Content-Type: application/json' -d '{body}'",
        "",
        "From Python, in the same shell:",
        "",
        f"{shlex.quote(sys.executable)} -m pip install --quiet openai",
        f"{shlex.quote(sys.executable)} - <<'END'",
        "import os",
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{base_url(settings)}/v1", api_key=os.environ["KEY"])',
        "for chunk in client.chat.completions.create(",
        f'    model="{settings.default_model}", stream=True,',
        "    temperature=0,",
        f'    messages=[{{"role": "user", "content": "{QUESTION}"}}],',
        "):",
        '    print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)',
        "print()",
        "END",
    ]


def _command(settings: Settings, *words: str) -> str:
    """A command line that acts on this home from any folder."""
    program = "qosqueue" if shutil.which("qosqueue") else str(Path(sys.executable).with_name("qosqueue"))
    given = {"QOSQUEUE_HOME": str(settings.home)} | {
        name: os.environ[name] for name in ("QOSQUEUE_DATABASE_URL",) if name in os.environ
    }
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in given.items()), shlex.join([program, *words])])
