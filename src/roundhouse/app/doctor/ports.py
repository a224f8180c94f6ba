"""The engines' fixed ports: free, ours, or another program's; whether what listens is well; and those run by others."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

from roundhouse.app import specs
from roundhouse.app.doctor import whose
from roundhouse.app.doctor.finding import error, ok, warning
from roundhouse.engines.openai import endpoint_of
from roundhouse.ports import Endpoint
from roundhouse.runtime import occupants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit
    from roundhouse.config.models import ModelConfig

PROBE_LIMIT = 5.0
"""Seconds for an engine's answer to a readiness probe."""


def check(visit: Visit) -> Iterator[Finding]:
    """Every port that a model names (models of one engine may share it), then the engines that others run."""
    for port, models in ports_of(visit).items():
        yield from _port(visit, port, models)
    for model in visit.engines:
        if model.launcher == "attached":
            yield _attached(model)


def ports_of(visit: Visit) -> dict[int, list[ModelConfig]]:
    """The fixed ports of engines that we start, each with its models."""
    found: dict[int, list[ModelConfig]] = {}
    for model in visit.engines:
        port = specs.port_of(model)
        if port is not None and model.launcher != "attached":
            found.setdefault(port, []).append(model)
    return found


def _port(visit: Visit, port: int, models: list[ModelConfig]) -> Iterator[Finding]:
    names, about = ", ".join(model.id for model in models), f"port {port}"
    found = occupants.listeners(port, visit.proc)
    if not found:
        yield ok(about, f"It is free for {names}.")
        return
    foreign = [one for one in found if not whose.is_ours(visit, one)]
    if foreign:
        pid = next((one.pid for one in foreign if one.pid is not None), None)
        end = f"end it (`roundhouse doctor --fix --end-pid {pid}`), or " if pid is not None else ""
        yield error(
            about,
            f"It is taken by {occupants.words(foreign)}, which Roundhouse did not start; {names} can't be loaded.",
            f"{end}give the models another `port:`",
        )
        return
    yield ok(about, f"An engine of ours listens: {occupants.words(found)}.")
    yield from _health(about, port, models[0])


def _attached(model: ModelConfig) -> Finding:
    endpoint = endpoint_of(model.url) if model.url else Endpoint("127.0.0.1", model.port or 0)
    where = f"{endpoint.host}:{endpoint.port}"
    try:
        with socket.create_connection((endpoint.host, endpoint.port), PROBE_LIMIT):
            return ok(model.id, f"{where} takes connections.")
    except OSError as problem:
        why = problem.strerror or str(problem)
        return warning(model.id, f"{where} can't be reached: {why}.", "start what serves it there, or correct `url:`")


def _health(about: str, port: int, model: ModelConfig) -> Iterator[Finding]:
    engine, status, path = specs.engine_of(model), None, ""
    for path in engine.ready_paths(model):
        status, body = _get(port, path)
        if status is not None and engine.is_ready(status, body):
            yield ok(about, f"Its engine answers {path}: ready.")
            return
        if status != 404:
            break
    answer = f"answers {status}" if status is not None else f"does not answer within {PROBE_LIMIT:.0f} s"
    yield warning(
        about,
        f"Its engine {answer} on {path}: it loads, or is unwell.",
        f"`roundhouse status`, `roundhouse logs {model.id}`",
    )


def _get(port: int, path: str) -> tuple[int | None, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PROBE_LIMIT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(65536)
    except (OSError, HTTPException):
        return None, b""
    finally:
        connection.close()
