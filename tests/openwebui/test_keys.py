"""Open WebUI before a Roundhouse with keys (spec F2, F3): what each kind of key lets it do."""

from __future__ import annotations

import pytest

from roundhouse.api.auth import hash_key
from tests.openwebui.conftest import CONNECTION, until
from tests.support.house import Place, Running, Scripted


@pytest.fixture
def locked():
    """One scripted model behind two keys: `plain` may only ask, `trusted` may unload and is believed."""
    place = Place()
    alone = Scripted(place.folder, "alone")
    rights = {"plain": {}, "trusted": {"manage": True, "trusted": True}}
    place.write([alone], keys=[{"name": name, "hash": hash_key(name), **more} for name, more in rights.items()])
    with Running(place):
        yield f"http://127.0.0.1:{place.port}/v1"


def ejecting(talk):
    """Presses the eject button, and returns what is said of it."""
    talk.page.reload()
    talk.open_models()
    talk.row("alone").hover()
    talk.row("alone").get_by_label("Eject model").click()
    return talk.toasts().filter(has_text="unload")


def test_f2_a_wrong_key_sees_no_models(chat, webui, locked):
    webui.connect(locked, key="wrong", **CONNECTION)
    assert [model["id"] for model in webui.ask("GET", "/api/models?refresh=true")["data"]] == []


def test_f3_a_key_that_may_not_manage_can_chat_and_not_eject(chat, webui, locked):
    webui.connect(locked, key="plain", **CONNECTION)
    talk = chat("alone")
    assert talk.ask("hi")
    said = ejecting(talk)
    said.wait_for()
    assert "manage" in said.inner_text()


def test_f3_a_key_that_may_manage_can_eject(chat, webui, locked):
    webui.connect(locked, key="trusted", **CONNECTION)
    talk = chat("alone")
    assert talk.ask("hi")
    ejecting(talk).get_by_text("Model unloaded successfully").wait_for()
    assert until(lambda: talk.row("alone").locator(".bg-green-500").count() == 0)
