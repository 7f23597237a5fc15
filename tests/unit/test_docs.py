"""Do the pages say what the code does?"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from qosqueue.broker import library
from qosqueue.cli import app as command_line
from qosqueue.ops import announce
from qosqueue.ops.first_run import People
from qosqueue.policy.document import faults, with_file
from qosqueue.policy.terms import WeightClass
from qosqueue.service import policy_file, tenant_fields
from qosqueue.settings import Settings
from qosqueue.store.records import Model, NewKey
from qosqueue.wiring import build
from qosqueue_web.app import create_app
from qosqueue_workers.engines.base import EngineRequest
from scripts import lifecycle_diagram, results_table, settings_table
from scripts.bench.policies.interface import Request
from scripts.bench.sim.loop import run
from scripts.bench.sim.scenes import mixed
from scripts.bench.sim.setting import setting
from scripts.bench.sim.slots import Slots
from scripts.celery_suite import page as celery_page
from scripts.generated_block import ROOT, with_block

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def fenced(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("module", [lifecycle_diagram, results_table, settings_table, celery_page])
def test_generated_parts_are_current(module: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module.__name__, "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stderr}run: python -m {module.__name__}"


def test_a_page_that_is_not_current_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "lifecycle.md"
    page.write_text("# x\n<!-- generated: lifecycle -->\nold\n<!-- end: lifecycle -->\nrest\n")
    monkeypatch.setattr("scripts.generated_block.ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["lifecycle_diagram", "--check"])
    assert lifecycle_diagram.run("lifecycle", {page: "new"}, None) == 1
    assert "old" in page.read_text()
    monkeypatch.setattr(sys, "argv", ["lifecycle_diagram"])
    assert lifecycle_diagram.run("lifecycle", {page: "new"}, None) == 0
    assert page.read_text() == "# x\n<!-- generated: lifecycle -->\nnew\n<!-- end: lifecycle -->\nrest\n"
    with pytest.raises(ValueError, match="no <!-- generated: other -->"):
        with_block(page.read_text(), "other", "x")


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if "://" not in target:
                yield page, target


def test_links_lead_somewhere() -> None:
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page, target in links()
        if not (page.parent / target.partition("#")[0]).exists()
    ]
    assert not dead


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_snippets_are_those_that_up_prints(page: Path) -> None:
    people = People(admin_password=None, keys=(NewKey("key_1", "qq_your_key", "your_key", "acme"),))
    printed = announce.guide(Settings(host="127.0.0.1", port=8080), people, ["acme"]).splitlines()
    start, end = printed.index("In a shell:"), printed.index("END")
    text = page.read_text("utf-8")
    for line in printed[start + 1 : end + 1]:
        wanted = line.replace(shlex.quote(sys.executable), ".venv/bin/python")
        if wanted and not wanted.startswith("From Python"):
            assert f"\n{wanted}\n" in text


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_every_command_is_in_the_table(page: Path) -> None:
    text = page.read_text("utf-8")
    root = typer.main.get_command(command_line)
    names = []
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        parts = getattr(command, "commands", {"": None})
        names += [f"qosqueue {name} {part}".rstrip() for part in parts]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_api_page_has_every_route_and_the_readmes_too(tmp_path: Path) -> None:
    document = create_app(build(Settings(home=tmp_path))).test_client().get("/openapi.json").get_json()
    routes = {f"`{method.upper()} {path}`" for path, methods in document["paths"].items() for method in methods}
    for page in ("docs/design/api.md", "README.md", "README.zh-CN.md"):
        assert [route for route in sorted(routes) if route not in read(page)] == []


def test_the_api_page_has_every_error_code() -> None:
    sources = [*ROOT.glob("web/api/*.py"), *ROOT.glob("workers/*.py"), *ROOT.glob("qosqueue/service/*.py")]
    text = "\n".join(source.read_text("utf-8") for source in sources)
    codes = {first or second for first, second in re.findall(r'Refusal\(\d+, "([a-z_]+)"|"code": "([a-z_]+)"', text)}
    codes |= set(re.findall(r'\d: "([a-z_]+)"', read("web/api/errors.py").split("_CODES = ")[1].split("}")[0]))
    assert {"invalid_api_key", "broker_unavailable", "worker_lost", "engine_failed"} <= codes
    # A name that is taken is told by pages and commands; no route of the API makes names.
    page = read("docs/design/api.md")
    assert [code for code in sorted(codes - {"conflict"}) if f"`{code}`" not in page] == []


def test_the_keys_page_has_every_script_and_every_key() -> None:
    page = read("docs/design/keys.md")
    for name in library.NAMES:
        assert f"| `{name}` |" in page
    kinds = set(re.findall(r"P \.\. '([a-z0-9]+)", library.library()))
    assert {"leases", "waiting", "heads", "msg", "cancel", "claims"} <= kinds
    assert [kind for kind in sorted(kinds) if f"`G:{kind}" not in page] == []


def test_the_engine_of_the_howto_runs() -> None:
    (code,) = fenced(read("docs/howto/add-an-engine.md"), "python")
    names: dict[str, Any] = {"__name__": "echo"}
    exec(compile(code, "echo.py", "exec"), names)
    engine = names["EchoEngine"](Model("parrot", "echo", WeightClass.LIGHT, 1, 64, 2, {"word_ms": 0}, True, 0))
    engine.load()
    said: list[str] = []
    request = EngineRequest(
        "r1", "/v1/chat/completions", {"messages": [{"role": "user", "content": "one two three"}], "max_tokens": 2}
    )
    try:
        completion = engine.stream(request, lambda choices: said.append(choices[0]["delta"]["content"]))
    finally:
        engine.close()
    assert "".join(said) == completion.text == "one two"
    assert (completion.finish_reason, completion.prompt_tokens, completion.completion_tokens) == ("length", 3, 2)


def test_the_rule_of_the_howto_runs() -> None:
    (code,) = fenced(read("docs/howto/add-a-policy.md"), "python")
    names: dict[str, Any] = {"__name__": "shortest_first"}
    exec(compile(code, "shortest_first.py", "exec"), names)
    chosen = setting("overload", "about", ["--requests", "1000", "--slots", "8"], rho=1.2)
    work = mixed(chosen, 1.2, 1)
    started = run(names["ShortestFirst"](work.pool), work.requests, Slots(8)).started_ms
    assert len(started) == len(work.requests)
    shorter, longer = (
        sorted(work.requests, key=lambda each: each.predicted_ms)[part] for part in (slice(100), slice(-100, None))
    )

    def waited(requests: list[Request]) -> int:
        return sum(started[each.id] - each.arrival_ms for each in requests)

    assert waited(shorter) < waited(longer) / 10


def test_the_policy_file_of_the_howto_is_one() -> None:
    (file,) = fenced(read("docs/howto/policy-in-git.md"), "toml")
    policy = policy_file.parse(file)
    empty: dict[str, Any] = {"tenants": {}, "models": {}, "overrides": [], "scenarios": []}
    assert faults(with_file(empty, policy)) == []
    named = {name for entry in policy["tenants"].values() for name in entry}
    assert set(tenant_fields.CLEARABLE) - named == {"organisation"}, "every limit and target is shown"


def test_no_page_names_a_machine() -> None:
    wrong = re.compile(r"/(?:root|home|work)/|(?<!/var)/tmp/|\.internal\b")
    found = [f"{page.relative_to(ROOT)}: {hit[0]}" for page in PAGES for hit in wrong.finditer(page.read_text("utf-8"))]
    assert found == []
