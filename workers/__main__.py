"""`python -m qosqueue_workers`: run one inference worker, or check that it could."""

from __future__ import annotations

import argparse
import json
import sys

import structlog

from qosqueue.errors import EngineError, QosqueueError, StoreUnavailable
from qosqueue.policy.terms import WeightClass
from qosqueue.settings import load_settings
from qosqueue.store.records import Model
from qosqueue.store.schema import is_current
from qosqueue.telemetry.logs import log_to_stderr
from qosqueue.wiring import Services, build
from qosqueue_workers.app import load_engines, serve
from qosqueue_workers.engines.registry import make_engine
from qosqueue_workers.gpu import GpuBinding, bind, readings

log = structlog.get_logger(__name__)


UNSOUND = 2
FIX = "; fix: "


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 after a clean stop, 1 with one line when the worker cannot run.

    With `--check-model` the model is one JSON object on stdin, with the fields of `Model`, and nothing else is
    read: 2 with one line if no engine takes it; with `--check` besides, also if its files are not there.
    """
    parser = argparse.ArgumentParser(prog="qosqueue worker run", description="Serve models until SIGTERM or Ctrl-C.")
    parser.add_argument("--models", help="names of models, with commas (default: every enabled model)")
    parser.add_argument("--gpu", type=int, metavar="N", help="index of the GPU to bind to (default: the first, if any)")
    parser.add_argument("--name", help="name of this worker (default: host and process)")
    parser.add_argument("--check", action="store_true", help="only check that the models' files are there")
    parser.add_argument("--check-model", action="store_true", help="only check one model, given as JSON on stdin")
    given = parser.parse_args(arguments)
    try:
        if given.check_model:
            return _check_candidate(files_too=given.check)
        settings = load_settings()
        # SQLite would make an empty file where none is. Asked before logging, for Alembic would log that it was asked.
        if not is_current(settings.sql_url()):
            raise StoreUnavailable(
                "no database of this version: `qosqueue up` makes it (QOSQUEUE_HOME names the folder)"
            )
        log_to_stderr(settings.log_level)
        services = build(settings)
        models = _chosen(services, given.models)
        if given.check:
            for model in models:
                _check(model)
            return 0
        gpu = bind(given.gpu)
        log.info("device", gpu=str(gpu), readings=readings(gpu) if isinstance(gpu, GpuBinding) else None)
        return serve(services, models, load_engines(models), gpu, given.name)
    except QosqueueError as error:
        print(f"qosqueue: {error}", file=sys.stderr)
        return 1


def _check(model: Model) -> None:
    """Raise EngineError, with what to do, for a model that could not be loaded."""
    leave_out = f"`qosqueue model update {model.name} --disable`"
    try:
        make_engine(model).check()
    except EngineError as error:
        text = str(error)
        raise EngineError(f"{text}, or {leave_out}" if FIX in text else f"{text}{FIX}{leave_out}") from error


def _check_candidate(*, files_too: bool) -> int:
    fields = json.load(sys.stdin)
    try:
        engine = make_engine(Model(**(fields | {"weight_class": WeightClass(fields["weight_class"])})))
        if files_too:
            engine.check()
    except EngineError as error:
        print(f"qosqueue: {error}", file=sys.stderr)
        return UNSOUND
    return 0


def _chosen(services: Services, names: str | None) -> list[Model]:
    if names:
        return [services.catalog.get_model(name.strip()) for name in names.split(",")]
    models = [model for model in services.catalog.list_models() if model.enabled]
    if not models:
        raise QosqueueError(
            "no model to serve: add one with `qosqueue model add`, or `qosqueue model update NAME --enable`"
        )
    return models


if __name__ == "__main__":
    sys.exit(main())
