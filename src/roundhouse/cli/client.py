"""The HTTP client of the commands: asks a running Roundhouse, and makes errors with exit codes of what goes wrong.

One connection per call, from the standard library: commands are short, and start-up time is what people notice.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from roundhouse.cli.exits import Failed, NotRunning, Refused, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from roundhouse.errors import RouterError

CONNECT_LIMIT = 5.0
"""Seconds for a connection to come about."""
QUICK = 15.0
"""Seconds of silence that a call which has nothing to wait for may take."""
REFUSALS = frozenset({401, 403, 404, 409, 429})
"""Statuses that mean: Roundhouse is fine, but you may not, or there is no such thing."""
USER_AGENT = "roundhouse-chat"
"""Status lines go to terminals as text; this is how we are known to be one (spec B2)."""


class Client:
    """One running Roundhouse.

    Args:
        url: where it answers. A trailing `/v1`, as in addresses for other programs, is understood.
        key: API key, None where none is needed.

    Raises:
        Usage: the URL is none.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        base = url.rstrip("/").removesuffix("/v1")
        try:
            parts = urlsplit(base)
            port = parts.port
        except ValueError as error:
            raise Usage(f"{url!r} is no URL: {error}.") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Usage(f"{url!r} is no URL of a Roundhouse; write for example http://127.0.0.1:8002.")
        self.url = base
        self._tls = parts.scheme == "https"
        self._host, self._port, self._path = parts.hostname, port, parts.path
        self._headers = {"user-agent": USER_AGENT, "accept": "*/*"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"

    def get(self, path: str) -> Any:  # noqa: ANN401 - whatever JSON that path has
        """The JSON at a path. Raises Failed, NotRunning, Refused."""
        with self.open("GET", path, limit=QUICK) as response:
            return _parse(read(response), self.url)

    def post(self, path: str, body: object = None) -> Any:  # noqa: ANN401 - as `get`
        """The JSON that answers a POST, however long that takes. Raises Failed, NotRunning, Refused."""
        with self.open("POST", path, body) as response:
            return _parse(read(response), self.url)

    def delete(self, path: str) -> Any:  # noqa: ANN401 - as `get`
        """The JSON that answers a DELETE. Raises Failed, NotRunning, Refused."""
        with self.open("DELETE", path, limit=QUICK) as response:
            return _parse(read(response), self.url)

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        limit: float | None = None,
    ) -> Iterator[HTTPResponse]:
        """An answer whose status is good, to be read with `read` or `lines`; leaving closes the connection.

        Args:
            method: of HTTP.
            path: from the root of the API on.
            body: sent as JSON.
            headers: besides ours.
            limit: seconds of silence after which it is given up; None: never.

        Raises:
            Failed, NotRunning, Refused: with Roundhouse's own words where it said some.
        """
        connection = self._connect()
        try:
            yield self._ask(connection, method, path, body, headers or {}, limit)
        finally:
            connection.close()

    def _connect(self) -> HTTPConnection:
        make = HTTPSConnection if self._tls else HTTPConnection
        connection = make(self._host, self._port, timeout=CONNECT_LIMIT)
        try:
            connection.connect()
        except OSError as error:
            why = error.strerror or str(error) or "no answer"
            raise NotRunning(
                f"Nothing answers at {self.url} ({why}). Start it with `roundhouse serve`,"
                " or say where it is: --url or ROUNDHOUSE_URL."
            ) from None
        return connection

    def _ask(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        body: object,
        headers: Mapping[str, str],
        limit: float | None,
    ) -> HTTPResponse:
        connection.sock.settimeout(limit)
        more = dict(headers)
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            more["content-type"] = "application/json"
        try:
            connection.request(method, self._path + path, data, {**self._headers, **more})
            response = connection.getresponse()
        except (OSError, HTTPException, ValueError) as error:
            raise _broken(error, self.url) from None
        if response.status >= 300:
            raise _error(response, self.url)
        return response


def model_path(model: str, action: str) -> str:
    """The admin path of something to do with a model."""
    return f"/api/v1/models/{quote(model, safe='/')}/{action}"


def read(response: HTTPResponse) -> bytes:
    """The whole body. Raises Failed when the connection breaks off."""
    try:
        return response.read()
    except (OSError, HTTPException) as error:
        raise _broken(error) from None


def lines(response: HTTPResponse) -> Iterator[str]:
    """Lines as they come, without their ends. Raises Failed when the connection breaks off."""
    while True:
        try:
            line = response.readline()
        except (OSError, HTTPException, ValueError) as error:  # ValueError: a broken chunk size
            raise _broken(error) from None
        if not line:
            return
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def events(response: HTTPResponse) -> Iterator[tuple[str, str]]:
    """Server-sent events as (event, data); comments are passed over. Raises Failed as `lines` does."""
    kind, data = "message", list[str]()
    for line in lines(response):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line and data:
            yield kind, "\n".join(data)
        if not line:
            kind, data = "message", []
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)


def _parse(body: bytes, url: str) -> Any:  # noqa: ANN401 - as `Client.get`
    try:
        return json.loads(body)
    except ValueError:
        raise Failed(f"What answers at {url} is no Roundhouse: it sent no JSON.") from None


def _error(response: HTTPResponse, url: str) -> RouterError:
    """The error of an answer, in Roundhouse's words; of another program on that port in ours."""
    try:
        message = str(json.loads(response.read())["error"]["message"])
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return Failed(f"What answers at {url} does not seem to be Roundhouse: HTTP {response.status}.")
    if response.status == 401:
        message += " Give it as --key or ROUNDHOUSE_API_KEY."
    return Refused(message) if response.status in REFUSALS else Failed(message)


def _broken(error: Exception, url: str = "Roundhouse") -> Failed:
    if isinstance(error, TimeoutError):
        return Failed(f"{url} did not answer in time.")
    return Failed(f"The connection to {url} broke off ({str(error) or type(error).__name__}).")
