"""The files of the dashboard, `/ui` (spec G2), and of the API's description, `/docs`, and what they load.

The page itself is always asked for anew; the rest lies below a path that changes with the files, so that browsers may
keep it for ever and never mix two versions. None of it needs a key: what it shows comes from the admin API, which does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from starlette.types import Scope

FOLDER = Path(__file__).parent.parent / "web"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
FOREVER = "public, max-age=31536000, immutable"


def add_pages(app: FastAPI, folder: Path = FOLDER) -> None:
    """Adds `/ui` and `/docs`."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    version = hashlib.sha256(b"".join(name.encode() + body for name, body in files.items())).hexdigest()[:16]
    assets = f"/ui/assets/{version}".encode()
    page, description = (files[name].replace(b"{{assets}}", assets) for name in ("index.html", "docs.html"))
    headers = {**HEADERS, "cache-control": "no-cache", "etag": f'"{version}"'}

    @app.api_route("/ui", methods=["GET", "HEAD"], include_in_schema=False)
    async def dashboard(request: Request) -> Response:
        """The dashboard, for browsers."""
        return answer(request, page)

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs(request: Request) -> Response:
        """What can be asked, for browsers."""
        return answer(request, description)

    def answer(request: Request, body: bytes) -> Response:
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="text/html; charset=utf-8", headers=headers)

    @app.get("/ui/", include_in_schema=False)
    async def with_slash() -> Response:
        """Leads to the dashboard."""
        return RedirectResponse("/ui", 308)

    app.mount(f"/ui/assets/{version}", _Assets(directory=folder))


def prefers_pages(accept: str) -> bool:
    """Whether who asks for `/` is a browser that wants to show something."""
    return "text/html" in accept.lower()


class _Assets(StaticFiles):
    """Files that never change at their address."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        found = super().file_response(full_path, stat_result, scope, status_code)
        more: Mapping[str, str] = {**HEADERS, "cache-control": FOREVER}
        found.headers.update(more)
        return found
