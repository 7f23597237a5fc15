"""`python -m qosqueue_workers`: run one inference worker, or check that it could."""

from __future__ import annotations

import argparse
import sys

import structlog

from qosqueue.errors import QosqueueError
from qosqueue.settings import load_settings
from qosqueue.store.records import Model
from qosqueue.telemetry.logs import log_to_stderr
from qosqueue.wiring import Services, build
from qosqueue_workers.app import load_engines, serve
from qosqueue_workers.engines.registry import make_engine
from qosqueue_workers.gpu import bind

log = structlog.get_logger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 after a clean stop, 1 with one line when the worker cannot run."""
    parser = argparse.ArgumentParser(prog="qosqueue worker run", description="Serve models until SIGTERM or Ctrl-C.")
    parser.add_argument("--models", help="names of models, with commas (default: every enabled model)")
    parser.add_argument("--gpu", type=int, metavar="N", help="index of the GPU to bind to (default: the first, if any)")
    parser.add_argument("--name", help="name of this worker (default: host and process)")
    parser.add_argument("--check", action="store_true", help="only check that the models' files are there")
    given = parser.parse_args(arguments)
    try:
        settings = load_settings()
        log_to_stderr(settings.log_level)
        services = build(settings)
        models = _chosen(services, given.models)
        if given.check:
            for model in models:
                make_engine(model)
            return 0
        gpu = bind(given.gpu)
        log.info("device", gpu=str(gpu))
        return serve(services, models, load_engines(models), gpu, given.name)
    except QosqueueError as error:
        print(f"qosqueue: {error}", file=sys.stderr)
        return 1


def _chosen(services: Services, names: str | None) -> list[Model]:
    if names:
        return [services.catalog.get_model(name.strip()) for name in names.split(",")]
    models = [model for model in services.catalog.list_models() if model.enabled]
    if not models:
        raise QosqueueError("no model to serve: add one with `qosqueue model add`")
    return models


if __name__ == "__main__":
    sys.exit(main())
