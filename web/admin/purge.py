"""How does an operator end all that waits in a lane, and see how far that has come?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from qosqueue.errors import InvalidField, NotFound
from qosqueue.policy.terms import LANES
from qosqueue.service.purges import MOST_SLICES, Purges
from qosqueue_web.admin.access import actor
from qosqueue_web.admin.small_form import SmallForm


def mount(pages: Blueprint, purges: Purges) -> None:
    """Add the page that asks for the lane's name, and what purges it."""
    views = PurgePages(purges)
    pages.add_url_rule("/queues/<lane>/purge", "purge", views.ask)
    pages.add_url_rule("/queues/<lane>/purge", "purge_lane", views.purge, methods=["POST"])


@dataclass(frozen=True)
class PurgePages:
    """The views; the service writes an audit row for each slice."""

    purges: Purges

    def ask(self, lane: str) -> Response:
        """What a purge would end."""
        return self._page(lane, SmallForm({"lane": "", "why": ""}))

    def purge(self, lane: str) -> Response:
        """End what waits, some slices of it, if the lane's name was typed."""
        form = SmallForm.read(request.form, ("lane", "why"))
        if form.typed["lane"] != lane:
            form.refuse(InvalidField("lane", f"{lane}, the name of the lane", form.typed["lane"] or None))
            return self._page(lane, form)
        try:
            # The first tells only what there is.
            *_, at = islice(self.purges.purge(lane, actor=actor(), why=form.typed["why"]), 1 + MOST_SLICES)
        except InvalidField as error:
            form.refuse(error)
            return self._page(lane, form)
        flash(f"{at.ended} requests of {lane} were ended{f'; {at.left} are left: go on below' if at.left else ''}.")
        if not at.left:
            return redirect(url_for("admin.queues"))
        return self._page(lane, form)

    def _page(self, lane: str, form: SmallForm) -> Response:
        if lane not in LANES:
            raise NotFound("There is no such lane of requests.")
        html = render_template("admin/purge.html", lane=lane, waiting=self.purges.waiting(lane), form=form)
        return make_response(html, 422 if form.faults else 200)
