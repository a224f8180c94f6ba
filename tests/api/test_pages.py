from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from roundhouse.api.pages import FOLDER, add_pages, prefers_pages


@pytest.fixture
def client():
    app = FastAPI(docs_url=None)
    add_pages(app)
    with TestClient(app) as found:
        yield found


def assets(client) -> list[str]:
    return re.findall(r'(?:src|href)="(/ui/assets/[^"]+)"', client.get("/ui").text)


def test_page_asks_for_nothing_inline_and_nothing_from_elsewhere(client):
    page = client.get("/ui")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=|<style", page.text)


def test_nothing_in_the_files_leads_elsewhere_or_makes_html_of_text():
    for path in FOLDER.iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path
        assert not re.search(r"\.(?:inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\(", text), path


def test_every_file_the_page_names_is_there_and_kept_for_ever(client):
    named = assets(client)
    assert len(named) == 3
    for path in named:
        found = client.get(path)
        assert found.status_code == 200
        assert "immutable" in found.headers["cache-control"]
        assert "content-security-policy" in found.headers
        again = client.get(path, headers={"if-none-match": found.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_modules_import_only_files_that_are_there():
    for path in FOLDER.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text("utf-8")):
            assert (FOLDER / name).is_file(), (path, name)


def test_page_is_asked_for_anew_and_not_sent_again_unchanged(client):
    page = client.get("/ui")
    assert page.headers["cache-control"] == "no-cache"
    same = client.get("/ui", headers={"if-none-match": page.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert client.get("/ui", headers={"if-none-match": '"other"'}).status_code == 200


def test_head_has_the_headers_alone(client):
    for path in ("/ui", assets(client)[0]):
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["etag"] == whole.headers["etag"]


@pytest.mark.parametrize(
    "path", ["../../errors.py", "%2e%2e/errors.py", "..%2ferrors.py", "%2fetc%2fpasswd", "nothing.js", "", "%00"]
)
def test_nothing_else_is_served(client, path):
    base = assets(client)[0].rpartition("/")[0]
    assert client.get(f"{base}/{path}").status_code == 404


def test_another_version_is_not_there(client):
    assert client.get("/ui/assets/0000/app.js").status_code == 404


def test_address_changes_with_the_files(tmp_path):
    def made(style: str) -> str:
        for page in ("index.html", "docs.html"):
            (tmp_path / page).write_text("{{assets}}/style.css")
        (tmp_path / "style.css").write_text(style)
        app = FastAPI()
        add_pages(app, tmp_path)
        with TestClient(app) as client:
            return client.get("/ui").text

    assert made("a{}") == made("a{}") != made("b{}")


def test_slash_leads_to_the_page(client):
    found = client.get("/ui/", follow_redirects=False)
    assert (found.status_code, found.headers["location"]) == (308, "/ui")


@pytest.mark.parametrize(("accept", "page"), [("text/html,*/*;q=0.8", True), ("*/*", False), ("", False)])
def test_who_wants_a_page(accept, page):
    assert prefers_pages(accept) is page


def test_the_description_of_the_api_is_ours_and_loads_only_our_files(client):
    page = client.get("/docs")
    assert page.headers["content-security-policy"] == client.get("/ui").headers["content-security-policy"]
    for path in re.findall(r'(?:src|href)="(/ui/assets/[^"]+)"', page.text):
        assert client.get(path).status_code == 200
    assert "://" not in page.text
    assert client.get("/docs", headers={"if-none-match": page.headers["etag"]}).status_code == 304
