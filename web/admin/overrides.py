"""What holds for a model or a task type in place of a tenant's own, and how is it changed?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from qosqueue.errors import Conflict, InvalidField, InvalidPolicy, NotFound
from qosqueue.policy.document import ABOUT
from qosqueue.policy.terms import OnLate, TaskType
from qosqueue.service.accounts import Accounts
from qosqueue.service.agreements import Agreements
from qosqueue.service.catalog import Catalog
from qosqueue.service.policies import Policies
from qosqueue.service.tenant_fields import OVERRIDABLE
from qosqueue_web.admin.access import actor
from qosqueue_web.admin.small_form import SmallForm

TEXTS = ("on_late", "road")
FIELDS = (*ABOUT, *OVERRIDABLE, "why")


def mount(pages: Blueprint, accounts: Accounts, catalog: Catalog, agreements: Agreements, policies: Policies) -> None:
    """Add the page of overrides, and what sets and removes one."""
    views = OverridePages(accounts, catalog, agreements, policies)
    pages.add_url_rule("/overrides", "overrides", views.show)
    pages.add_url_rule("/overrides", "set_override", views.set, methods=["POST"])
    pages.add_url_rule("/overrides/remove", "remove_override", views.remove, methods=["POST"])


@dataclass(frozen=True)
class OverridePages:
    """The views; each change goes through `policies`, which makes a version and writes audit rows."""

    accounts: Accounts
    catalog: Catalog
    agreements: Agreements
    policies: Policies

    def show(self) -> Response:
        """Every override; the form is filled with the one that the address names."""
        form = SmallForm.read(request.args, FIELDS)
        self._fill(form)
        return self._page(form)

    def set(self) -> Response:
        """Let hold what was typed, and nothing else, for what it is about."""
        form = SmallForm.read(request.form, FIELDS)
        values: dict[str, object] = {name: form.whole(name) for name in OVERRIDABLE if name not in TEXTS}
        steps = [step.strip() for step in form.typed["road"].split(",")] if form.typed["road"] else None
        values |= {"on_late": form.typed["on_late"] or None, "road": steps}
        if not form.faults and self._changed(form, values):
            flash("Override saved.")
            return redirect(url_for("admin.overrides"))
        return self._page(form)

    def remove(self) -> Response:
        """Take one away."""
        form = SmallForm.read(request.form, FIELDS)
        if not self._fill(form):
            raise NotFound("There is no such override any more.")
        if self._changed(form, dict.fromkeys(OVERRIDABLE)):
            flash("Override removed.")
            return redirect(url_for("admin.overrides"))
        return self._page(form)

    def _fill(self, form: SmallForm) -> bool:
        """Type what holds for what the form is about; whether there is such an override."""
        wanted = _about(form)
        for each in self._shown():
            if {name: each[name] for name in ABOUT if each[name]} == wanted:
                form.typed |= {name: _text(each[name]) for name in OVERRIDABLE}
                return True
        return False

    def _changed(self, form: SmallForm, values: Mapping[str, object]) -> bool:
        try:
            self.policies.set_override(_about(form), values, actor=actor(), why=form.typed["why"])
        except InvalidField as error:
            form.refuse(error)
        except InvalidPolicy as error:
            form.refuse_all(error)
        except Conflict as error:
            form.refuse_whole(str(error))
        return not form.faults

    def _shown(self) -> list[dict[str, Any]]:
        names = {tenant.id: tenant.name for tenant in self.accounts.list_tenants()}
        return [
            {name: getattr(each, name) for name in (*OVERRIDABLE, "source", "updated_ms", "model", "task_type")}
            | {"tenant": names.get(each.tenant_id or "")}
            for each in self.agreements.overrides()
        ]

    def _page(self, form: SmallForm) -> Response:
        html = render_template(
            "admin/overrides.html",
            overrides=self._shown(),
            said=lambda each: {name: _text(each[name]) for name in OVERRIDABLE if each[name] is not None},
            tenants=[tenant.name for tenant in self.accounts.list_tenants()],
            models=[model.name for model in self.catalog.list_models()],
            task_types=list(TaskType),
            on_late=list(OnLate),
            form=form,
        )
        return make_response(html, 422 if form.faults else 200)


def _about(form: SmallForm) -> dict[str, str]:
    return {name: form.typed[name] for name in ABOUT if form.typed[name]}


def _text(value: object) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
