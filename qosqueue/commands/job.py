"""`qosqueue job …`: what became of a request?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from qosqueue.commands.context import USAGE, actor, failure
from qosqueue.commands.output import JsonOption, instant_text, print_json, print_table
from qosqueue.commands.running import open_running, tenant_names
from qosqueue.policy.lifecycle import TERMINAL
from qosqueue.service.explain import facts_of
from qosqueue.store.records import Job

app = typer.Typer(help="Requests and what became of them.", no_args_is_help=True)

COLUMNS = ("id", "tenant", "model", "task_type", "status", "priority", "routing_key", "attempts", "created_ms")

JobId = Annotated[str, typer.Argument(metavar="ID", help="the job's id")]

DeadId = Annotated[str, typer.Argument(metavar="ID", help="the job's id, or the tag in `qosqueue queue dead`")]


@app.command()
def get(job_id: JobId, json: JsonOption = False) -> None:
    """Show one job."""
    with open_running() as services:
        job, names = services.jobs.find(job_id), tenant_names(services)
    _show(job, names, json)


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="only of this tenant (name or id)")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most so many, the newest first")] = 20,
    json: JsonOption = False,
) -> None:
    """List the newest jobs."""
    with open_running() as services:
        tenant_id = None if tenant is None else services.accounts.get_tenant(tenant).id
        jobs = services.jobs.list(tenant_id, limit)
        names = tenant_names(services)
    if json:
        print_json([asdict(job) for job in jobs])
    else:
        print_table([_row(job, names) for job in jobs], COLUMNS)


@app.command()
def cancel(job_id: JobId, json: JsonOption = False) -> None:
    """Take a job out of the queue, or stop it if it runs."""
    with open_running() as services:
        before = services.jobs.find(job_id)
        job, names = services.jobs.cancel_any(job_id, actor()), tenant_names(services)
    if not json and before.status in TERMINAL:
        print(f"nothing was cancelled: the job was {before.status} before", file=sys.stderr)
    elif not json and job.status not in TERMINAL:
        print("told to stop; it ends within a moment", file=sys.stderr)
    _show(job, names, json)


@app.command()
def explain(job_id: JobId, json: JsonOption = False) -> None:
    """Tell why a request waited and what was decided about it: who began before it, what held it back, where it is now.

    ID is a job's, a synchronous request's (job_… or chatcmpl-…) or, while the queue knows it, a host project's task's.
    """
    with open_running() as services:
        explanation = services.explanations.of_any(job_id.replace("chatcmpl-", "job_", 1), tenant_names(services))
    if json:
        print_json(facts_of(explanation))
        return
    print(f"{explanation.id}  {explanation.status}")
    for sentence in explanation.sentences:
        print(f"{'now' if sentence.at_ms is None else instant_text(sentence.at_ms)}  {sentence.text}")


@app.command()
def replay(dead_id: DeadId, json: JsonOption = False) -> None:
    """Queue a dead letter again, with all its attempts and its time to live; `qosqueue queue dead` lists them.

    The job's row goes from failed to queued. A synchronous request is refused: nobody waits for its answer.
    Of a task that was sent more than once, only the last message is replayed.
    """
    with open_running() as services:
        letter = services.dead_letters.replay(dead_id, actor=actor())
    if json:
        print_json({"task": letter.task, "lane": letter.lane, "status": "queued"})
    else:
        print(f"queued again: {letter.task} in {letter.lane}")


@app.command()
def discard(dead_id: DeadId, json: JsonOption = False) -> None:
    """Forget a dead letter and its payload for good. The job's row keeps its error."""
    with open_running() as services:
        letter = services.dead_letters.discard(dead_id, actor=actor())
    if json:
        print_json({"discarded": letter.task})
    else:
        print(f"discarded: {letter.task}")


@app.command()
def rerank(
    job_id: JobId,
    priority: Annotated[
        int | None, typer.Option(help="another priority, one of its tier's: vip 0-2, standard 3-6, basic 7-9")
    ] = None,
    budget_ms: Annotated[int | None, typer.Option(help="another start budget, in ms from its arrival")] = None,
    boost: Annotated[
        int | None, typer.Option(help="a priority that counts for a time; any, 0-9: a boost may leave the tier's range")
    ] = None,
    boost_s: Annotated[int | None, typer.Option(help="for so many seconds; 0 ends a boost")] = None,
    json: JsonOption = False,
) -> None:
    """Move a job that waits. What runs, or has ended, is left alone."""
    given = {"priority": priority, "budget_ms": budget_ms, "boost": boost, "boost_s": boost_s}
    moved = {field: value for field, value in given.items() if value is not None}
    if not moved:
        raise failure("job rerank: expected --priority, --budget-ms or --boost with --boost-s, got none", USAGE)
    with open_running() as services:
        services.reranks.rerank(job_id, actor=actor(), **given)
    if json:
        print_json({"task": job_id} | moved)
    else:
        print(f"moved: {job_id} ({', '.join(f'{field} {value}' for field, value in moved.items())})")


def _row(job: Job, names: dict[str, str]) -> dict[str, object]:
    return asdict(job) | {"tenant": names.get(job.tenant_id, job.tenant_id)}


def _show(job: Job, names: dict[str, str], json: bool) -> None:
    if json:
        print_json(asdict(job))
        return
    print_table([_row(job, names)], COLUMNS)
    if job.error is not None:
        print(f"\nerror {job.error['code']}: {job.error['message']}")
    if job.result is not None:
        print(f"\n{job.result['choices'][0]['message']['content']}")
