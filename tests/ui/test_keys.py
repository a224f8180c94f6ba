"""The dashboard of a Roundhouse with keys: it asks for one, and keeps it in its tab alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from roundhouse.api.auth import hash_key
from tests.support.house import Place, Running, Scripted
from tests.ui.conftest import barriers


@pytest.fixture
def keyed():
    place = Place()
    place.write(
        [Scripted(place.folder, "one")],
        keys=[
            {"name": "boss", "hash": hash_key("sk-boss"), "admin": True},
            {"name": "guest", "hash": hash_key("sk-guest")},
        ],
    )
    with Running(place):
        yield SimpleNamespace(url=f"http://127.0.0.1:{place.port}/ui")


def test_a_wrong_key_is_told_and_the_right_one_is_kept(keyed, opened):
    page = opened(keyed.url)
    page.get_by_label("Key", exact=True).fill("sk-wrong")
    page.keyboard.press("Enter")
    page.locator("#key .error:not(:empty)").wait_for()
    page.get_by_label("Key", exact=True).fill("sk-boss")
    page.keyboard.press("Enter")
    page.locator("#link.live").wait_for()
    page.get_by_role("button", name="Load one").click()
    page.locator(".state.ready").wait_for()
    page.reload()
    page.locator("#link.live").wait_for()
    assert page.evaluate("Object.keys(localStorage)") == []


def test_keys_are_listed_with_what_they_may_and_have_used(keyed, opened):
    page = opened(f"{keyed.url}#settings")
    page.get_by_label("Key", exact=True).fill("sk-boss")
    page.keyboard.press("Enter")
    for name, may in (("boss", "admin"), ("guest", "ask")):
        page.get_by_role("row").filter(has_text=name).filter(has_text=may).wait_for()
    assert "sk-" not in page.locator("main").inner_text()
    assert barriers(page) == []


def test_a_key_that_may_not_manage_sees_models_and_is_told(keyed, opened):
    page = opened(keyed.url)
    page.get_by_label("Key", exact=True).fill("sk-guest")
    page.keyboard.press("Enter")
    page.locator(".state.unloaded").wait_for()
    page.locator("#notes div").first.wait_for()
