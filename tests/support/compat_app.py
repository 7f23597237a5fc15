"""The app that `celery -A tests.support.compat_app` finds."""

import json
import os

from tests.support.compat_tasks import make_app

app = make_app(
    os.environ["COMPAT_REDIS_URL"],
    os.environ.get("COMPAT_RESULT_BACKEND"),
    models=json.loads(os.environ.get("COMPAT_MODELS", "{}")),
)
