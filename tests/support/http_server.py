"""How does a test let real HTTP clients talk to an application?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from werkzeug.serving import make_server


@contextmanager
def serving(services: Any) -> Iterator[str]:
    """The URL of the application over these services, on a free port of this machine."""
    from qosqueue_web.app import create_app

    server = make_server("127.0.0.1", 0, create_app(cast(Any, services)), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
