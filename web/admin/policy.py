"""Who changed the policy, when, why and in what, and how is an old version made to hold again?"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from qosqueue.errors import Conflict, InvalidField, InvalidPolicy, NotFound
from qosqueue.policy.document import Difference
from qosqueue.service.catalog import Catalog
from qosqueue.service.policies import Policies
from qosqueue.service.policy_versions import LARGEST_NUMBER
from qosqueue_web.admin.access import actor
from qosqueue_web.admin.small_form import SmallForm

PAGE_VERSIONS = 100


def mount(pages: Blueprint, policies: Policies, catalog: Catalog) -> None:
    """Add the history, a page for each version, differences, and the rollback."""
    views = PolicyPages(policies, catalog)
    pages.add_url_rule("/policy", "policy", views.history)
    pages.add_url_rule("/policy/diff", "policy_diff", views.diff)
    pages.add_url_rule("/policy/<int:number>", "policy_version", views.version)
    pages.add_url_rule("/policy/<int:number>/rollback", "rollback_policy", views.rollback, methods=["POST"])


@dataclass(frozen=True)
class PolicyPages:
    """The views; each change goes through `policies`, which makes a version and writes audit rows."""

    policies: Policies
    catalog: Catalog

    def history(self) -> str:
        """The versions, the newest first."""
        return render_template("admin/policy.html", versions=self.policies.versions.list(PAGE_VERSIONS))

    def version(self, number: int) -> Response:
        """One version: what it changed, and what going back to it would."""
        return self._page(number, SmallForm({"why": ""}))

    def diff(self) -> str:
        """What differs between two versions, or between one and what holds now."""
        before, after = request.args.get("before", type=int), request.args.get("after", type=int)
        if before is None:
            raise NotFound("Choose the versions to compare on the page of the policy.")
        try:
            found = self.policies.between(_known(before), None if after is None else _known(after))
        except Conflict as error:
            return render_template("admin/policy_diff.html", before=before, after=after, differences=[], fault=error)
        return render_template("admin/policy_diff.html", before=before, after=after, differences=found, fault=None)

    def rollback(self, number: int) -> Response:
        """Make the version hold again, or say why it cannot."""
        form = SmallForm.read(request.form, ("why",))
        if not form.typed["why"]:
            form.refuse(InvalidField("why", "a reason, which is kept with the new version", None))
            return self._page(number, form)
        try:
            outcome = self.policies.rollback(
                _known(number), actor=actor(), why=form.typed["why"], approve=self.catalog.keep_engine
            )
        except InvalidField as error:
            form.refuse(error)
        except InvalidPolicy as error:
            form.refuse_all(error)
        except Conflict as error:
            form.refuse_whole(str(error))
        else:
            flash(f"Version {number} holds again, as version {outcome.version}.")
            return redirect(url_for("admin.policy"))
        return self._page(number, form)

    def _page(self, number: int, form: SmallForm) -> Response:
        found = self.policies.versions.get(_known(number))
        newest = self.policies.versions.list(1)[0].number
        back, why_not = self._back(number)
        html = render_template(
            "admin/policy_version.html",
            version=found,
            newest=newest,
            changed=self.policies.changed_in(number),
            back=back,
            why_not=why_not,
            form=form,
        )
        return make_response(html, 422 if form.faults else 200)

    def _back(self, number: int) -> tuple[list[Difference], str | None]:
        """What a rollback would change, or why there can be none."""
        try:
            return self.policies.check_rollback(number), None
        except (Conflict, InvalidPolicy) as error:
            return [], str(error)


def _known(number: int) -> int:
    # Beyond what a database holds.
    if not 1 <= number <= LARGEST_NUMBER:
        raise NotFound(f"no policy version {number}")
    return number
