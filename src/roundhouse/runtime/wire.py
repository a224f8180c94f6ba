"""A request as bytes (RFC 9110, 9112), and what an endpoint is called in headers and in error messages.

Pure: bytes and values in, bytes out. It sends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Sequence

    from roundhouse.ports import Endpoint

_NOT_FORWARDED = frozenset(
    {
        # RFC 9110 §7.6.1: these speak of one connection, not of the message.
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        # Ours to say, or answered by us already.
        b"content-length",
        b"expect",
        b"host",
    }
)

_WITHOUT_BODY = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"})
"""Methods that need no `content-length: 0` when their body is empty (RFC 9110 §8.6)."""


def request_head(
    host: bytes,
    endpoint: Endpoint,
    method: bytes,
    path: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    length: int | None,
) -> bytes:
    """Request line and headers up to the empty line. `length` is the body's bytes, None if it is sent in chunks.

    Raises:
        BadRequest: the path or a header holds characters that would break the request apart.
    """
    dropped = _dropped(endpoint, headers)
    lines = [b"%b %b%b HTTP/1.1\r\nhost: %b" % (method, endpoint.base.encode(), path, host)]
    lines += [name + b": " + value for name, value in headers if name.lower() not in dropped]
    lines += [name + b": " + value for name, value in endpoint.headers]
    if length is None:
        lines.append(b"transfer-encoding: chunked")
    elif length or method not in _WITHOUT_BODY:
        lines.append(b"content-length: %d" % length)
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    breaks = len(lines) + 2
    if b" " in path or head.count(b"\n") != breaks or head.count(b"\r") != breaks:
        raise BadRequest("The path holds a space, or the path or a header holds a line break.")
    return head


def _dropped(endpoint: Endpoint, headers: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Names of headers that stay here: of the client's connection, and those for which the endpoint has its own."""
    dropped = _NOT_FORWARDED
    if endpoint.headers:
        dropped = dropped.union(name.lower() for name, _ in endpoint.headers)
    for name, value in headers:
        if name.lower() == b"connection":
            dropped = dropped.union(token.strip().lower() for token in value.split(b","))
    return dropped


async def slices(body: bytes, size: int) -> AsyncIterator[memoryview]:
    """A long body in views of `size` bytes."""
    view = memoryview(body)
    for start in range(0, len(body), size):
        yield view[start : start + size]


async def chunked(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """A body of unknown length as RFC 9112 §7.1 frames it."""
    async for piece in body:
        if piece:  # an empty chunk would be the end
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def authority(endpoint: Endpoint) -> bytes:
    """The `host` header (RFC 9110 §7.2): IPv6 addresses in brackets, the scheme's own port left out."""
    own_port = 443 if endpoint.tls else 80
    host = _bracketed(endpoint.host)
    return (host if endpoint.port == own_port else f"{host}:{endpoint.port}").encode()


def name(endpoint: Endpoint) -> str:
    """The engine there, as the subject of a sentence."""
    return f"The engine at {_bracketed(endpoint.host)}:{endpoint.port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
