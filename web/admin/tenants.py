"""What do the pages of tenants show and change: targets, quotas and keys?"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from qosqueue.errors import Conflict, InvalidField, NotFound
from qosqueue.policy.terms import Tier
from qosqueue.service.accounts import Accounts
from qosqueue.store.records import NewKey, Tenant
from qosqueue_web.admin import forms
from qosqueue_web.admin.access import actor
from qosqueue_web.admin.forms import TenantForm

TENANT_ID = re.compile(r"ten_[0-9a-f]{24}")


def mount(pages: Blueprint, accounts: Accounts) -> None:
    """Add the list of tenants, the forms, and the keys."""
    views = TenantPages(accounts)
    pages.add_url_rule("/tenants", "tenants", views.list)
    pages.add_url_rule("/tenants/new", "new_tenant", views.new)
    pages.add_url_rule("/tenants/new", "create_tenant", views.create, methods=["POST"])
    pages.add_url_rule("/tenants/<tenant_id>", "tenant", views.show)
    pages.add_url_rule("/tenants/<tenant_id>", "update_tenant", views.update, methods=["POST"])
    pages.add_url_rule("/tenants/<tenant_id>/keys", "create_key", views.create_key, methods=["POST"])
    pages.add_url_rule("/tenants/<tenant_id>/keys/<key_id>/revoke", "revoke_key", views.revoke_key, methods=["POST"])


@dataclass(frozen=True)
class TenantPages:
    """The views; each change goes through `accounts`, which writes its audit row."""

    accounts: Accounts

    def list(self) -> str:
        """The table of all tenants with the number of their live keys."""
        tenants = self.accounts.list_tenants()
        live = Counter(key.tenant_id for key in self.accounts.list_keys() if key.revoked_ms is None)
        return render_template("admin/tenants.html", tenants=tenants, live_keys=live)

    def new(self) -> Response:
        """An empty form."""
        return _form_page(forms.blank())

    def create(self) -> Response:
        """Make the tenant, or show the form again with what is wrong."""
        form = forms.read(request.form)
        if form.faults:
            return _form_page(form)
        try:
            tenant = self.accounts.create_tenant(form.name, form.tier, actor=actor(), why=form.why, **form.optional())
        except InvalidField as error:
            form.refuse(error)
        except Conflict as error:
            form.faults["name"] = str(error)
        else:
            flash(f"Tenant {tenant.name} was created.")
            return redirect(url_for("admin.tenant", tenant_id=tenant.id))
        return _form_page(form)

    def show(self, tenant_id: str) -> Response:
        """One tenant: its form and its keys."""
        tenant = self._tenant(tenant_id)
        return self._tenant_page(tenant, forms.of_tenant(tenant))

    def update(self, tenant_id: str) -> Response:
        """Store the form, or show it again with what is wrong."""
        tenant = self._tenant(tenant_id)
        form = forms.read(request.form)
        if form.faults:
            return self._tenant_page(tenant, form)
        try:
            self.accounts.update_tenant(tenant.id, actor=actor(), why=form.why, **form.changes(tenant))
        except InvalidField as error:
            form.refuse(error)
        except Conflict as error:
            form.faults["name"] = str(error)
        else:
            flash("Changes saved.")
            return redirect(url_for("admin.tenant", tenant_id=tenant.id))
        return self._tenant_page(tenant, form)

    def create_key(self, tenant_id: str) -> Response:
        """Make a key and show it: the only page that ever does."""
        tenant = self._tenant(tenant_id)
        made = self.accounts.create_key(tenant.id, actor=actor())
        return self._tenant_page(tenant, forms.of_tenant(tenant), made=made)

    def revoke_key(self, tenant_id: str, key_id: str) -> Response:
        """Revoke one of the tenant's keys."""
        tenant = self._tenant(tenant_id)
        key = next((key for key in self.accounts.list_keys(tenant.id) if key.id == key_id), None)
        if key is None:
            raise NotFound(f"Tenant {tenant.name} has no key {key_id}.")
        self.accounts.revoke_key(key.id, actor=actor())
        flash(f"Key qq_{key.prefix}… was revoked.")
        return redirect(url_for("admin.tenant", tenant_id=tenant.id))

    def _tenant(self, tenant_id: str) -> Tenant:
        # The record also finds tenants by name; a page has one address.
        if TENANT_ID.fullmatch(tenant_id) is None:
            raise NotFound("There is no such tenant.")
        return self.accounts.get_tenant(tenant_id)

    def _tenant_page(self, tenant: Tenant, form: TenantForm, made: NewKey | None = None) -> Response:
        keys = sorted(self.accounts.list_keys(tenant.id), key=lambda key: (key.revoked_ms is not None, -key.created_ms))
        html = render_template("admin/tenant.html", tenant=tenant, form=form, tiers=list(Tier), keys=keys, made=made)
        return make_response(html, 422 if form.faults else 200)


def _form_page(form: TenantForm) -> Response:
    html = render_template("admin/new_tenant.html", form=form, tiers=list(Tier))
    return make_response(html, 422 if form.faults else 200)
