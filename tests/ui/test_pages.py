"""The dashboard with real models: what is seen, done by mouse and keyboard, and read by a screen reader."""

from __future__ import annotations

import base64
import json
import os
import re
import threading
from pathlib import Path

import pytest

from tests.ui.conftest import BROKEN, ENDLESS, GEMMA, SMOL, ask, barriers, until

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PAGES = ("now", "timeline", "requests", "models", "chat", "settings")
SCREENSHOTS = os.environ.get("ROUNDHOUSE_SCREENSHOTS")


def picture(page, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"dashboard-{name}.png")


def row(page, model: str):
    return page.locator(".row.model", has=page.get_by_role("link", name=model, exact=True))


def begin(box):
    box.gate.unlink(missing_ok=True)
    for name in (SMOL, GEMMA):
        ask(box, "POST", f"/api/v1/models/{name}/unload")


def say(model: str):
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


def test_a_load_is_begun_seen_and_ended_from_the_page(box, opened):
    begin(box)
    page = opened(box.url)
    page.locator("#link.live").wait_for()
    row(page, SMOL).get_by_role("button", name=f"Load {SMOL}").click()
    row(page, SMOL).locator(".state.ready").wait_for()
    assert page.locator(".map i").count() >= 2
    picture(page, "idle")
    row(page, SMOL).get_by_role("button", name=f"Pin {SMOL}").click()
    row(page, SMOL).locator('[aria-pressed="true"]').wait_for()
    row(page, SMOL).get_by_role("button", name=f"Pin {SMOL}").click()
    row(page, SMOL).locator('[aria-pressed="false"]').wait_for()
    row(page, SMOL).get_by_role("button", name=f"Unload {SMOL}").click()
    row(page, SMOL).locator(".state.unloaded").wait_for()


def test_who_waits_for_a_load_is_shown_with_the_reason(box, opened):
    begin(box)
    box.gate.touch()
    asking = [
        threading.Thread(target=ask, args=(box, "POST", "/v1/chat/completions", say(m))) for m in (SMOL, SMOL, GEMMA)
    ]
    page = opened(box.url)
    for one in asking:
        one.start()
    row(page, SMOL).locator(".state.loading, .state.unloaded").first.wait_for()
    page.get_by_text("3 waiting").first.wait_for()
    page.get_by_text("is being loaded first").first.wait_for()
    picture(page, "loading")
    box.gate.unlink()
    for one in asking:
        one.join(120)
    page.get_by_text("Nobody waits.").wait_for()


def test_a_request_is_cancelled_from_the_page_while_it_waits_and_while_it_is_answered(box, opened):
    begin(box)
    box.gate.touch()
    told = {}

    def request(name, **more):
        told[name] = ask(box, "POST", "/v1/chat/completions", {**say(SMOL), **more}, {"x-request-id": name})

    waits = threading.Thread(target=request, args=("waits",))
    waits.start()
    page = opened(box.url)
    page.get_by_role("button", name="Cancel the request waits").click()
    waits.join(60)
    assert (told["waits"][0], told["waits"][1]["error"]["code"]) == (499, "request_cancelled")
    page.get_by_text("Nobody waits.").wait_for()
    box.gate.unlink()
    assert ask(box, "POST", "/v1/chat/completions", say(ENDLESS))[0] == 200
    runs = threading.Thread(
        target=request, args=("runs",), kwargs={"model": ENDLESS, "max_tokens": -1, "ignore_eos": True}
    )
    runs.start()
    button = page.get_by_role("button", name="Cancel the request runs")
    button.wait_for()
    picture(page, "answering")
    assert barriers(page) == []
    button.focus()
    page.evaluate("() => { window.kept = document.activeElement }")
    before = page.locator("li.asked span").first.inner_text()
    until(lambda: page.locator("li.asked span").first.inner_text() != before)
    assert page.evaluate("() => document.activeElement === window.kept"), "its row stays while figures change"
    page.keyboard.press("Enter")
    runs.join(60)
    assert told["runs"][0] == 499
    button.wait_for(state="detached")


def test_what_a_model_was_reckoned_with_stands_beside_what_it_holds(box, opened):
    assert ask(box, "POST", f"/api/v1/models/{SMOL}/load")[0] == 200
    until(lambda: ask(box, "GET", "/api/v1/state")[1]["models"][SMOL]["measured"].get("ram"))
    page = opened(box.url)
    line = page.locator(".sizes tbody tr", has=page.get_by_role("rowheader", name=SMOL, exact=True))
    line.wait_for()
    until(lambda: all("iB" in cell for cell in line.locator("td").all_inner_texts()))
    page.get_by_text("Other programs").wait_for()


def test_a_failure_is_shown_with_its_reason(box, opened):
    page = opened(box.url)
    page.locator("#link.live").wait_for()
    row(page, BROKEN).get_by_role("button", name=f"Load {BROKEN}").click()
    page.locator("#notes div").wait_for()
    row(page, BROKEN).locator(".state.failed").wait_for()
    assert row(page, BROKEN).locator(".what .bad").inner_text()
    picture(page, "failure")


def test_requests_are_listed_filtered_and_taken_apart(box, opened):
    assert ask(box, "POST", "/v1/chat/completions", say(SMOL))[0] == 200
    until(lambda: ask(box, "GET", "/api/v1/requests?outcome=ok")[1]["requests"])
    page = opened(f"{box.url}#requests")
    page.locator(".row.request button").first.click()
    assert page.locator(".fall div").count() == 4
    page.locator("li", has_text="A request came for").first.wait_for()
    page.locator("li", has_text="with status 200.").first.wait_for()
    page.get_by_text("What was sent").wait_for()
    page.locator("summary", has_text="Request").click()
    page.locator("pre", has_text='"messages"').wait_for()
    picture(page, "requests")
    page.get_by_role("searchbox", name="Model").fill("nobody")
    page.keyboard.press("Enter")
    page.locator(".row.request").first.wait_for(state="detached")


def test_a_model_in_full_with_its_log(box, opened):
    ask(box, "POST", f"/api/v1/models/{SMOL}/load")
    page = opened(f"{box.url}#models/{SMOL}")
    page.locator("pre:not(.log)", has_text=".gguf").wait_for()
    until(lambda: len(page.locator(".log").inner_text()) > 500)
    page.get_by_role("searchbox", name="Search the log").fill("no such line")
    page.get_by_text("No line has this.").wait_for()


def test_a_chat_is_answered_and_what_a_model_writes_is_text(box, opened):
    evil = "<img src=x onerror=alert(1)>"
    chunk = {"choices": [{"index": 0, "delta": {"content": evil, "reasoning_content": "hm"}}]}
    page = opened(f"{box.url}#chat")
    page.locator(f"option[value='{SMOL}']").wait_for(state="attached")
    page.get_by_role("textbox", name="Message").fill("Say hello.")
    page.keyboard.press("Enter")
    page.get_by_text("per second").wait_for()
    assert len(page.locator(".turn.assistant").inner_text()) > 20
    page.route(
        "**/v1/chat/completions", lambda route: route.fulfill(body=f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n")
    )
    page.get_by_role("textbox", name="Message").fill("Be evil.")
    page.keyboard.press("Enter")
    page.get_by_text(evil).wait_for()
    assert page.locator(".turn.assistant img").count() == 0
    assert page.locator(".turn.assistant details").last.is_visible()


def test_a_chat_tells_of_the_load_and_then_how_fast_it_was(box, opened):
    begin(box)
    box.gate.touch()
    page = opened(f"{box.url}#chat")
    page.locator(f"option[value='{SMOL}']").wait_for(state="attached")
    page.get_by_role("combobox", name="Model").select_option(SMOL)
    page.get_by_role("textbox", name="Message").fill("Say hello.")
    page.get_by_role("button", name="Send").click()
    page.get_by_role("status").filter(has_text="Loading model").wait_for()
    box.gate.unlink()
    line = page.locator(".turn.assistant .line", has_text="per second")
    line.wait_for()
    assert re.fullmatch(r"first token after [\d.]+ m?i?n?s? ?· \d+ tokens, [\d.]+ per second", line.inner_text())
    assert page.get_by_role("status").filter(has_text="Loading model").count() == 0
    picture(page, "chat")


def test_a_chat_is_stopped_and_so_is_its_engine(box, opened):
    def without_end(route):
        body = {**json.loads(route.request.post_data), "ignore_eos": True, "max_tokens": -1}
        route.continue_(post_data=json.dumps(body))

    def active():
        return ask(box, "GET", "/api/v1/state")[1]["models"][ENDLESS]["active"]

    page = opened(f"{box.url}#chat", prepare=lambda made: made.route("**/v1/chat/completions", without_end))
    page.locator(f"option[value='{ENDLESS}']").wait_for(state="attached")
    page.get_by_role("combobox", name="Model").select_option(ENDLESS)
    page.get_by_role("textbox", name="Message").fill("Say it again.")
    page.keyboard.press("Enter")
    until(lambda: len(page.locator(".turn.assistant").inner_text()) > 20)
    assert active() == 1
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()
    until(lambda: active() == 0)
    page.get_by_role("button", name="Send").wait_for()
    page.get_by_role("button", name="New").click()
    assert page.locator(".turn").count() == 0


def test_an_image_is_shown_and_sent_with_its_message(box, opened, tmp_path):
    sent = []
    chunk = {"choices": [{"index": 0, "delta": {"content": "A dot."}}]}

    def seen(route):
        sent.append(json.loads(route.request.post_data))
        route.fulfill(body=f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", content_type="text/event-stream")

    (tmp_path / "dot.png").write_bytes(base64.b64decode(DOT))
    page = opened(f"{box.url}#chat", prepare=lambda made: made.route("**/v1/chat/completions", seen))
    page.locator(f"option[value='{SMOL}']").wait_for(state="attached")
    page.get_by_label("Attach an image").set_input_files(tmp_path / "dot.png")
    page.get_by_role("textbox", name="Message").fill("What is this?")
    page.keyboard.press("Enter")
    page.get_by_text("A dot.").wait_for()
    image = page.get_by_role("img", name="Attached image")
    assert image.evaluate("image => [image.complete, image.naturalWidth]") == [True, 1]
    (message,) = sent[0]["messages"]
    assert message["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DOT}"}},
    ]
    assert page.get_by_label("Attach an image").input_value() == ""


def test_switches_are_bars_that_tell_their_parts(box, opened):
    for model in (SMOL, GEMMA):
        assert ask(box, "POST", "/v1/chat/completions", say(model))[0] == 200
    until(lambda: ask(box, "GET", "/api/v1/switches")[1]["switches"])
    page = opened(f"{box.url}#timeline")
    page.locator(".track button:not(.wait)").last.click()
    page.get_by_text("What the machine needs").wait_for()
    picture(page, "timeline")
    page.locator(".track button.wait").last.click()
    page.get_by_text("waited for").first.wait_for()
    page.get_by_text("load").first.wait_for()
    picture(page, "waits")
    assert barriers(page) == []
    before = page.locator(".axis span").first.inner_text()
    page.locator(".lanes").focus()
    page.keyboard.press("ArrowLeft")
    until(lambda: page.locator(".axis span").first.inner_text() != before)


def test_a_change_of_the_file_is_shown_and_applied(box, opened):
    before = box.place.file.read_text("utf-8")
    page = opened(f"{box.url}#settings")
    page.get_by_text("Nothing has changed since it was read.").wait_for()
    try:
        box.place.file.write_text(re.sub(r"(linger\W+)0s", r"\g<1>1s", before), "utf-8")
        page.get_by_role("button", name="Look again").click()
        page.get_by_text("scheduling.linger: 0").wait_for()
        picture(page, "plan")
        assert barriers(page) == []
        page.get_by_role("button", name="Apply").click()
        page.get_by_text("Applied: scheduling.linger.").wait_for()
        page.get_by_text("Nothing has changed since it was read.").wait_for()
        assert ask(box, "GET", "/api/v1/config")[1]["scheduling"]["linger"] == 1
        box.place.file.write_text(before.replace('"linger"', '"lingr"'), "utf-8")
        page.get_by_role("button", name="Look again").click()
        page.get_by_role("alert").filter(has_text="lingr").wait_for()
        assert page.get_by_role("button", name="Apply").count() == 0
    finally:
        box.place.file.write_text(before, "utf-8")
        assert ask(box, "POST", "/api/v1/reload")[0] == 200


def test_keys_lead_to_pages_and_the_theme_is_kept(box, opened):
    page = opened(box.url)
    page.locator("#link.live").wait_for()
    page.keyboard.press("g")
    page.keyboard.press("5")
    page.get_by_role("heading", name="Chat").wait_for()
    assert page.locator("nav [aria-current=page]").inner_text() == "Chat"
    for _ in range(2):
        page.locator("#theme").click()
    page.reload()
    assert "dark" in page.locator("html").get_attribute("class")


def test_a_cut_feed_is_told_and_goes_on(box, opened):
    page = opened(box.url)
    page.locator("#link.live").wait_for()
    box.running.end()
    page.locator("#link.cut").wait_for()
    box.running.start()
    page.locator("#link.live").wait_for()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_nothing_serious_is_in_the_way_of_anybody(box, opened, dark, width):
    for name in PAGES:
        page = opened(f"{box.url}#{name}", width=width, dark=dark)
        page.locator("#link.live").wait_for()
        page.locator("main > *").first.wait_for()
        assert barriers(page) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        if dark and width == 375 and name == "now":
            picture(page, f"dark-{width}")
        page.close()


@pytest.mark.parametrize("width", [1280, 375])
def test_the_api_is_described_without_anything_from_elsewhere(box, opened, width):
    page = opened(f"{box.url.removesuffix('/ui')}/docs", width=width)
    page.locator("details").first.wait_for()
    described = page.evaluate("fetch('/openapi.json').then((answer) => answer.json())")["paths"]
    operations = [(method, path) for path, methods in described.items() for method in methods]
    assert page.locator("details").count() == len(operations) > 40
    chat = page.locator("details", has_text="/v1/chat/completions").first
    chat.locator("summary").click()
    assert "Id or alias of a model" in chat.inner_text()
    assert barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 1280:
        picture(page, "api")
