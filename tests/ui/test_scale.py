"""A thousand models and ten thousand requests, told by a simulated server: the page stays quick."""

from __future__ import annotations

import json

MODELS, REQUESTS = 1000, 10_000
LATE = 100.0
"""Milliseconds: no frame may take longer than this at the median of scrolling, on a busy machine without a GPU."""

FRAMES = """async (selector) => {
    const box = document.querySelector(selector), took = [];
    let before = performance.now();
    for (let step = 0; step < 60; step += 1) {
        box.scrollTop += 700;
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        took.push(now - before);
        before = now;
    }
    return took.sort((a, b) => a - b)[30];
}"""


def state():
    kinds = ("ready", "unloaded", "loading", "failed")
    models = {
        f"model-{n}": {
            "state": kinds[n % 4], "engine": "llamacpp", "device": {"gpu0": n << 20}, "since": 1.0, "active": 0,
            "waiting": 0, "slots": 4, "error": None, "progress": {"fraction": 0.5, "stage": "reading weights"},
        }
        for n in range(MODELS)
    }  # fmt: skip
    devices = {"gpu0": {"total": 1 << 40, "used": 1 << 38, "ours": 1 << 38, "foreign": 0}}
    return {"version": "0", "models": models, "devices": devices, "queue": 0}


def requests(query: str):
    before = float(next((part[7:] for part in query.split("&") if part.startswith("before=")), REQUESTS))
    made = range(int(before) - 1, max(-1, int(before) - 501), -1)
    common = {"model": "m", "wanted": "m", "key": "", "task": "", "status": 200, "error": "", "queue_s": 0.1}
    return [common | {"id": f"r{n}", "at": n, "load_s": 0, "ttft_s": 0.2, "total_s": 1.0} for n in made]


def serve(page):
    """Answers in the server's place; the feed says progress of every model again and again, then ends."""
    feed = f"id: a-1\nevent: snapshot\ndata: {json.dumps(state())}\n\n"
    for turn in range(5):
        for n in range(2, MODELS, 4):
            told = {"model": f"model-{n}", "fraction": turn / 5, "stage": "reading"}
            feed += f"id: a-{turn}\nevent: progress\ndata: {json.dumps(told)}\n\n"
    queue = {"waiting": [], "total": 0, "loads": {}, "pinned": []}
    page.route("**/api/v1/state", lambda route: route.fulfill(json=state()))
    page.route("**/api/v1/queue", lambda route: route.fulfill(json=queue))
    page.route("**/api/v1/events", lambda route: route.fulfill(body=feed, content_type="text/event-stream"))
    page.route(
        "**/api/v1/requests?*",
        lambda route: route.fulfill(json={"requests": requests(route.request.url.partition("?")[2])}),
    )


def test_a_thousand_models_scroll(box, opened):
    page = opened(box.url, prepare=serve)
    page.get_by_text(f"of {MODELS}").wait_for()
    assert page.locator(".row.model").count() < 40
    took = page.evaluate(FRAMES, ".scroll")
    print(f"a frame of {MODELS} models: {took:.1f} ms")
    assert took < LATE
    page.get_by_role("searchbox", name="Filter models").fill("model-777")
    page.get_by_role("link", name="model-777", exact=True).wait_for()


def test_ten_thousand_requests_scroll(box, opened):
    page = opened(f"{box.url}#requests", prepare=serve)
    page.locator(".row.request").first.wait_for()
    for _ in range(REQUESTS // 500):
        before = page.locator(".head [role=status]").first.inner_text()
        if "more" not in before:
            break
        page.evaluate("document.querySelector('.scroll').scrollTop = 1e9")
        page.wait_for_function("(t) => document.querySelector('.head [role=status]').textContent !== t", arg=before)
    assert page.locator(".row.request").count() < 60
    page.evaluate("document.querySelector('.scroll').scrollTop = 0")
    took = page.evaluate(FRAMES, ".scroll")
    print(f"a frame of {REQUESTS} requests: {took:.1f} ms")
    assert took < LATE
