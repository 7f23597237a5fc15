"""The project's Celery app. Two lines are about the order: the import and `configure`."""

import os

from celery import Celery

from qosqueue.celery import configure

app = Celery("reports", include=["example_project.tasks"])
app.conf.broker_url = app.conf.result_backend = os.environ["REPORTS_REDIS_URL"]
app.conf.task_acks_late = True

configure(app, group="reports")
