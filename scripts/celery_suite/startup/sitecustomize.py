"""Which transport do Celery's own tests get? Python imports this at each start of the suite's processes.

Kombu refuses dotted paths in broker URLs, and the tests build their URLs themselves: `redis://` has to lead to the
transport under test, in the test process and in every worker and beat process that a test starts.
"""

import os

if transport := os.environ.get("CELERY_SUITE_TRANSPORT"):
    from kombu.transport import TRANSPORT_ALIASES

    TRANSPORT_ALIASES["redis"] = transport
