"""Which jobs did a tenant submit lately, and what became of them?"""

from __future__ import annotations

import re

from flask import Blueprint, render_template, request

from qosqueue.errors import NotFound
from qosqueue.service.accounts import Accounts
from qosqueue.service.jobs import Jobs
from qosqueue_web.admin.tenants import TENANT_ID

PAGE_JOBS = 50
JOB_ID = re.compile(r"job_[0-9a-f]{24}")


def mount(pages: Blueprint, accounts: Accounts, jobs: Jobs) -> None:
    """Add the tenant's list of jobs, newest first, `PAGE_JOBS` a page; `?before=` is the id of the last one seen."""

    def tenant_jobs(tenant_id: str) -> str:
        before = request.args.get("before")
        if TENANT_ID.fullmatch(tenant_id) is None or (before is not None and JOB_ID.fullmatch(before) is None):
            raise NotFound("There is no such list of jobs.")
        tenant = accounts.get_tenant(tenant_id)
        found = jobs.list(tenant.id, PAGE_JOBS, before=before)
        older = found[-1].id if len(found) == PAGE_JOBS else None
        return render_template("admin/jobs.html", tenant=tenant, jobs=found, older=older)

    pages.add_url_rule("/tenants/<tenant_id>/jobs", "tenant_jobs", tenant_jobs)
