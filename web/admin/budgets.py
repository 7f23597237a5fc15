"""Which start budgets were learned for requests that state none, and within which bounds?"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from qosqueue.errors import Conflict, InvalidField, InvalidPolicy
from qosqueue.policy.document import ABOUT
from qosqueue.policy.terms import TaskType
from qosqueue.service.accounts import Accounts
from qosqueue.service.agreements import Agreements
from qosqueue.service.catalog import Catalog
from qosqueue.service.policies import Policies
from qosqueue.service.policy_file import BOUNDS
from qosqueue_web.admin.access import actor
from qosqueue_web.admin.small_form import SmallForm

FIELDS = (*ABOUT, *BOUNDS, "why")


def mount(pages: Blueprint, accounts: Accounts, catalog: Catalog, agreements: Agreements, policies: Policies) -> None:
    """Add the page of learned budgets, and what bounds one."""
    views = BudgetPages(accounts, catalog, agreements, policies)
    pages.add_url_rule("/budgets", "budgets", views.show)
    pages.add_url_rule("/budgets", "bound_budget", views.bound, methods=["POST"])


@dataclass(frozen=True)
class BudgetPages:
    """The views; each change goes through `policies`, which makes a version and writes audit rows."""

    accounts: Accounts
    catalog: Catalog
    agreements: Agreements
    policies: Policies

    def show(self) -> Response:
        """Every scenario; the form is filled from the address."""
        return self._page(SmallForm.read(request.args, FIELDS))

    def bound(self) -> Response:
        """Set both bounds; what was left empty is none."""
        form = SmallForm.read(request.form, FIELDS)
        values = {name: form.whole(name) for name in BOUNDS}
        about = {name: form.typed[name] for name in ABOUT if form.typed[name]}
        if form.faults:
            return self._page(form)
        try:
            self.policies.bound_scenario(about, values, actor=actor(), why=form.typed["why"])
        except InvalidField as error:
            form.refuse(error)
        except InvalidPolicy as error:
            form.refuse_all(error)
        except Conflict as error:
            form.refuse_whole(str(error))
        else:
            flash("Bounds saved.")
            return redirect(url_for("admin.budgets"))
        return self._page(form)

    def _page(self, form: SmallForm) -> Response:
        tenants = self.accounts.list_tenants()
        html = render_template(
            "admin/budgets.html",
            scenarios=self.agreements.scenarios(),
            names={tenant.id: tenant.name for tenant in tenants},
            tenants=[tenant.name for tenant in tenants],
            models=[model.name for model in self.catalog.list_models()],
            task_types=list(TaskType),
            form=form,
        )
        return make_response(html, 422 if form.faults else 200)
