"""What a person sees in Open WebUI, and what it makes Roundhouse do (spec A8, B1 to B4, D7)."""

from __future__ import annotations

import re

import pytest

from tests.openwebui.conftest import BROKEN, CHORES, CONNECTION, GEMMA, MOST_TOKENS, SMOL, until

PERFORMANCE = re.compile(r"\[Performance: [\d.]+ tok/s \| \d+ tokens in [\d.]+s\]")
OURS = ("⏳", "✓", "Loading model", "Model ready", "Performance")
TRAINS = "Write one sentence about trains."
FRANCE = "What is the capital of France?"
LONG = "Tell me a very long story about trains."


def clean(text):
    return not any(mark in text for mark in OURS)


def test_b1_the_status_line_tells_of_the_load_and_then_how_fast_it_was(chat, box):
    box.gate.touch()
    trains = chat(SMOL)
    trains.say(TRAINS)
    trains.sees("2s / ")
    trains.picture("loading")
    assert trains.text.count() == 0
    box.gate.unlink()
    assert clean(trains.finished())
    assert PERFORMANCE.fullmatch(trains.sees("[Performance").inner_text())
    trains.picture("performance")
    *loading, ready, performance = trains.status_lines()
    assert len(loading) >= 3
    assert all(re.match(rf"⏳ Loading model\.\.\. \d+s / \d+s · {SMOL}", line) for line in loading)
    assert re.fullmatch(r"✓ Model ready! \(\d+s\)", ready)
    assert PERFORMANCE.fullmatch(performance)
    assert box.loads() == [SMOL]


def test_b1_a_page_opened_anew_goes_on_where_it_was(chat, box):
    box.gate.touch()
    trains = chat(SMOL)
    trains.say(TRAINS)
    trains.sees("Loading model")
    until(lambda: "/c/" in trains.page.url)
    trains.page.reload()
    trains.sees("Loading model")
    box.gate.unlink()
    trains.sees("[Performance")
    assert clean(trains.finished())
    assert box.loads() == [SMOL]
    assert [r.status for r in box.past(1)] == [200]


def test_b3_the_tooltip_has_the_figures(chat):
    trains = chat(SMOL)
    trains.page.set_viewport_size({"width": 900, "height": 700})
    trains.ask(TRAINS)
    trains.page.locator("button[id^=info-]").last.hover()
    tooltip = trains.page.locator(".tippy-content").last
    tooltip.wait_for()
    figures = dict(line.split(": ", 1) for line in tooltip.inner_text().splitlines() if ": " in line)
    trains.picture("usage")
    assert {"response_token/s", "total_s", "load_s", "queue_s", "ttft_s"} <= figures.keys()
    # Sent once: Open WebUI adds up the usage of all chunks.
    assert int(figures["total_tokens"]) == int(figures["prompt_tokens"]) + int(figures["completion_tokens"])
    line = trains.sees("[Performance").inner_text()
    assert f" {figures['completion_tokens']} tokens in " in line
    assert f" {float(figures['response_token/s']):.1f} tok/s" in line


def test_d3_the_dropdown_switches_models(chat, box):
    talk = chat(SMOL)
    talk.ask(TRAINS)
    box.gate.touch()
    talk.open_models()
    talk.row(GEMMA).wait_for()
    talk.picture("models")
    talk.row(GEMMA).click()
    talk.say(FRANCE)
    talk.sees(f"· {GEMMA}")
    box.gate.unlink()
    assert talk.finished(2).startswith("Paris")
    talk.picture("switch")
    assert box.loads() == [SMOL, GEMMA]
    assert box.model(SMOL)["state"] == "unloaded"
    assert [(r.wanted, r.model, r.status) for r in box.past(2)] == [(SMOL, SMOL, 200), (GEMMA, GEMMA, 200)]


def test_b4_nothing_of_ours_comes_back_in_the_next_turn(chat, box, webui):
    talk = chat(SMOL)
    first = talk.ask(TRAINS)
    talk.sees("[Performance")
    talk.ask("And one about ships.")
    talk.sees("[Performance")
    before, after = box.wire.bodies()
    assert before["messages"] == [{"role": "user", "content": TRAINS}]
    assert [message["role"] for message in after["messages"]] == ["user", "assistant", "user"]
    said = after["messages"][1]
    assert said["content"].split() == first.split()
    assert clean(str(after["messages"]))
    kept = webui.newest_chat()["chat"]["history"]["messages"].values()
    answers = [message for message in kept if message["role"] == "assistant"]
    assert len(answers) == 2
    assert all(clean(message["content"]) for message in answers)
    assert [message["statusHistory"][-1]["description"].startswith("[Perf") for message in answers] == [True, True]


def test_a8_the_stop_button_stops_the_engine(chat, box):
    story = chat(SMOL)
    story.say(LONG)
    story.text.wait_for()
    story.stop()
    (stopped,) = box.past(1)
    assert stopped.status == 499
    assert until(lambda: box.model(SMOL)["active"] == 0)
    assert "cancel task" in until(lambda: box.ask("GET", f"/api/v1/models/{SMOL}/log"))
    assert story.finished()
    assert box.model(SMOL)["state"] == "ready"
    # The next one finds its place free.
    assert story.ask(TRAINS)


def test_a8_stopped_while_it_loads_nothing_is_loaded_in_the_end(chat, box):
    box.gate.touch()
    story = chat(SMOL)
    story.say(LONG)
    story.sees("Loading model")
    story.stop()
    assert until(lambda: box.model(SMOL)["state"] == "unloaded")
    assert [r.status for r in box.past(1)] == [499]


def test_a4_a_failure_is_told_in_a_box(chat, box):
    talk = chat(BROKEN)
    talk.say(FRANCE)
    talk.sees("Model 'broken' can't be loaded: ")
    talk.sees("cut short")
    assert talk.page.get_by_text("Traceback").count() == 0
    assert box.loads() == []


def test_a4_an_engine_that_fails_while_one_waits_is_told_in_a_box(chat, box):
    box.gate.touch()
    talk = chat(SMOL)
    talk.say(FRANCE)
    talk.sees("Loading model")
    box.failure.touch()
    box.gate.unlink()
    talk.sees("--no-such-flag")
    talk.toasts().first.wait_for(state="hidden")
    talk.picture("error")
    assert box.loads() == [SMOL]


@pytest.mark.parametrize("header", [False, True], ids=["by their shape", "by the header"])
def test_d7_tasks_of_a_new_chat_cause_no_switch(chat, box, webui, header):
    if header:
        webui.connect(box.url, **CONNECTION)
    chat(SMOL).ask(TRAINS)
    webui.let_tasks(on=True)
    talk = chat(GEMMA)
    assert talk.ask(FRANCE).startswith("Paris")
    first, *rest = box.past(5)
    assert first.task == ""
    # The title is asked for at the same time as the chat, most often before it, and then answered by who is there.
    assert sorted(r.task for r in rest) == ["", "follow_up", "tags", "title"]
    assert [r.status for r in rest] == [200] * 4
    assert all(r.wanted == GEMMA for r in rest)
    assert {r.model for r in rest if r.task in {"", "follow_up", "tags"}} == {GEMMA}
    assert box.loads() == [SMOL, GEMMA]
    names = {asked.headers.get("x-openwebui-task") for asked in box.wire.asked if asked.method == "POST"}
    wanted = {None} if not header else {None, "", "title_generation", "follow_up_generation", "tags_generation"}
    assert names <= wanted
    assert len({r.session for r in rest}) == 1
    assert all(bool(r.user) is header for r in rest)


def test_d7_a_task_model_beside_the_chat_writes_titles_and_follow_ups(chat, box, webui):
    webui.let_tasks(on=True, model=CHORES)
    talk = chat(SMOL)
    talk.ask("Why is the sky blue?")
    talk.page.get_by_text("Follow up", exact=True).wait_for()
    requests = box.past(4)
    assert sorted((r.task, r.model) for r in requests) == [
        ("", SMOL),
        ("follow_up", CHORES),
        ("tags", CHORES),
        ("title", CHORES),
    ]
    assert sorted(box.loads()) == [CHORES, SMOL]
    kept = webui.newest_chat()
    assert kept["title"] != "Why is the sky blue?"  # which it takes where there is no title
    assert len(str(kept["title"])) <= 30
    assert all(r.completion_tokens <= MOST_TOKENS for r in requests)
