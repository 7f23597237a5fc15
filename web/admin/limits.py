"""Which breakers are open and which limits are in force, and how does an operator change them?"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from qosqueue.errors import Conflict, InvalidField, NotFound
from qosqueue.policy.reference.limits import breaker_limit
from qosqueue.service.accounts import Accounts
from qosqueue.service.breakers import Breakers
from qosqueue.service.limits import Limits
from qosqueue_web.admin.access import actor
from qosqueue_web.admin.small_form import SmallForm

FIELDS = ("name", "most", "for_s")


def mount(pages: Blueprint, accounts: Accounts, breakers: Breakers, limits: Limits) -> None:
    """Add the page of breakers and limits, and what changes them."""
    views = LimitPages(accounts, breakers, limits)
    pages.add_url_rule("/limits", "limits", views.show)
    pages.add_url_rule("/limits", "set_limit", views.set, methods=["POST"])
    pages.add_url_rule("/limits/lift", "lift_limit", views.lift, methods=["POST"])
    pages.add_url_rule("/breakers/trip", "trip_breaker", views.trip, methods=["POST"])
    pages.add_url_rule("/breakers/reset", "reset_breaker", views.reset, methods=["POST"])


@dataclass(frozen=True)
class LimitPages:
    """The views; each change goes through a service, which writes its audit row."""

    accounts: Accounts
    breakers: Breakers
    limits: Limits

    def show(self) -> Response:
        """Breakers, limits, and an empty form."""
        return self._page(SmallForm.read({}, FIELDS))

    def set(self) -> Response:
        """Set a limit, or show the form again with what is wrong."""
        form = SmallForm.read(request.form, FIELDS)
        most, for_s = form.whole("most"), form.whole("for_s")
        if most is None and "most" not in form.faults:
            form.refuse(InvalidField("most", "a whole number", None))
        if most is not None and not form.faults:
            try:
                view = self.limits.set(form.typed["name"], most, actor=actor(), for_s=for_s)
            except InvalidField as error:
                form.refuse(error)
            else:
                flash(f"At most {most} run under {view.name} from now on.")
                return redirect(url_for("admin.limits"))
        return self._page(form)

    def lift(self) -> Response:
        """Take a limit away."""
        name = request.form.get("name", "")
        try:
            self.limits.lift(name, actor=actor())
        except Conflict as error:
            return self._refused(str(error))
        except InvalidField as error:
            raise NotFound(str(error)) from error
        flash(f"Limit {name} was lifted.")
        return redirect(url_for("admin.limits"))

    def trip(self) -> Response:
        """Open a breaker, for a time or until it is reset."""
        form = SmallForm.read(request.form, ("name", "for_s"))
        for_s = form.whole("for_s")
        if form.faults:
            return self._refused(f"Seconds: {form.faults['for_s']}")
        try:
            view = self.breakers.trip(form.typed["name"], actor=actor(), for_s=for_s)
        except InvalidField as error:
            return self._refused(str(error))
        flash(f"Breaker {view.name} is open.")
        return redirect(url_for("admin.limits"))

    def reset(self) -> Response:
        """Close a breaker."""
        try:
            view = self.breakers.reset(request.form.get("name", ""), actor=actor())
        except InvalidField as error:
            return self._refused(str(error))
        flash(f"Breaker {view.name} is closed.")
        return redirect(url_for("admin.limits"))

    def _refused(self, why: str) -> Response:
        form = SmallForm.read({}, FIELDS)
        form.refuse_whole(why)
        return self._page(form)

    def _page(self, form: SmallForm) -> Response:
        html = render_template(
            "admin/limits.html",
            breakers=self.breakers.list(),
            # What a breaker sets is told with the breaker, and reset with it.
            limits=[view for view in self.limits.list() if not view.name.startswith(breaker_limit(""))],
            names={tenant.id: tenant.name for tenant in self.accounts.list_tenants()},
            form=form,
        )
        return make_response(html, 422 if form.faults else 200)
