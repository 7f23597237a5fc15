"""`qosqueue job …`: what became of a request?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from qosqueue.commands.context import actor
from qosqueue.commands.output import JsonOption, print_json, print_table
from qosqueue.commands.running import open_running
from qosqueue.policy.lifecycle import TERMINAL
from qosqueue.store.records import Job

app = typer.Typer(help="Requests and what became of them.", no_args_is_help=True)

COLUMNS = ("id", "tenant_id", "model", "task_type", "status", "priority", "routing_key", "attempts", "created_ms")

JobId = Annotated[str, typer.Argument(metavar="ID", help="the job's id")]


@app.command()
def get(job_id: JobId, json: JsonOption = False) -> None:
    """Show one job."""
    with open_running() as services:
        job = services.jobs.find(job_id)
    _show(job, json)


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="only of this tenant (name or id)")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most so many, the newest first")] = 20,
    json: JsonOption = False,
) -> None:
    """List the newest jobs."""
    with open_running() as services:
        tenant_id = None if tenant is None else services.accounts.get_tenant(tenant).id
        rows = [asdict(job) for job in services.jobs.list(tenant_id, limit)]
    if json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)


@app.command()
def cancel(job_id: JobId, json: JsonOption = False) -> None:
    """Take a job out of the queue, or stop it if it runs."""
    with open_running() as services:
        job = services.jobs.cancel_any(job_id, actor())
    if not json and job.status not in TERMINAL:
        print("told to stop; it ends within a moment", file=sys.stderr)
    _show(job, json)


def _show(job: Job, json: bool) -> None:
    if json:
        print_json(asdict(job))
        return
    print_table([asdict(job)], COLUMNS)
    if job.error is not None:
        print(f"\nerror {job.error['code']}: {job.error['message']}")
    if job.result is not None:
        print(f"\n{job.result['choices'][0]['message']['content']}")
