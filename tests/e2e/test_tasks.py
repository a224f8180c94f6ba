"""Background tasks and whose requests they are, through a whole Roundhouse (spec D4, D5, D7).

`one` and `two` do not fit together, `helper` fits beside either.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from roundhouse.api.auth import hash_key
from tests.support.house import Place, Running, Scripted, inside
from tests.support.wire import Api

BIG = "600MiB"  # of the 1 GiB that there is
HISTORY = "\n<chat_history>\nUSER: hi\n</chat_history>"
TITLE = "### Task:\nGenerate a concise title summarizing the chat history." + HISTORY
TOPIC = "Analyze if this message indicates a new conversation topic. If it does, extract a 2-3 word title"
CLAUDE_USER = {"user_id": "user_0f0f_account__session_c1cd8547-22a2-4928-9c48-96688f409afa"}


def user(text):
    return {"messages": [{"role": "user", "content": text}]}


TASKS = {
    "title": user(TITLE),
    "streamed title": user(TITLE) | {"stream": True},
    "rewritten prompt": user("### Task:\nName this chat in Welsh." + HISTORY),
    "metadata": user("Name it.") | {"metadata": {"task": "title_generation"}},
    "topic": {"messages": [{"role": "system", "content": TOPIC}, *user("hi")["messages"]], "stream": True},
    "quota": user("quota") | {"max_tokens": 1},
    "small model": user("Web page content: x") | {"model": "claude-haiku-4-5", "metadata": CLAUDE_USER},
}
CHATS = {
    "a person's task": user("### Task:\nWrite a function that parses dates."),
    "in a conversation": {
        "messages": [*user("hi")["messages"], {"role": "assistant", "content": "hello"}, *user(TITLE)["messages"]]
    },
    "with tools": user(TITLE) | {"stream": True, "tools": [{"type": "function", "function": {"name": "look"}}]},
    "documents": user("### Task:\nRespond to the user query using the provided context" + HISTORY),
    "haiku": user("Write a haiku.") | {"model": "claude-haiku-4-5"},
}


@pytest.fixture(scope="module")
def house(shared_place):
    with boxed(shared_place) as running:
        yield running


@pytest.fixture
async def clean(house):
    """`one` is loaded and nothing else; counts begin at 0."""
    for model in (house.two, house.helper, house.vectors):
        await house.api.post(f"/api/v1/models/{model.name}/unload")
    assert (await house.api.post("/api/v1/models/one/load")).status == 200
    for model in (house.one, house.two, house.helper, house.vectors):
        model.record.unlink(missing_ok=True)
    house.place.gate("load").touch()
    return house


def boxed(place, **settings):
    """A running box, as a context manager that gives what tests need of it."""
    models = {
        "one": Scripted(place.folder, "one", memory=BIG, slots=1),
        "two": Scripted(
            place.folder,
            "two",
            "--load-gate",
            str(place.gate("load")),
            memory=BIG,
            slots=1,
            aliases=["claude-haiku-4-5"],
        ),
        "helper": Scripted(place.folder, "helper"),
        "vectors": Scripted(place.folder, "vectors", memory=BIG, kind="embedding"),
    }
    place.write(list(models.values()), status={"every": "200ms"}, **settings)
    return Box(place, models)


class Box:
    def __init__(self, place, models):
        self.running = Running(place)
        self.found = SimpleNamespace(api=Api(place.port), place=place, running=self.running, **models)

    def __enter__(self):
        self.running.__enter__()
        return self.found

    def __exit__(self, *why):
        self.running.__exit__(*why)


@asynccontextmanager
async def asking(*coroutines):
    """Requests under way; those that are not taken are ended with their test."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        try:
            yield tasks
        finally:
            for task in tasks:
                if not task.done():
                    task.cancel()


async def waiting(api, model, count):
    """Returns when so many requests wait for the model."""
    async with asyncio.timeout(30):
        while (await api.model(model))["waiting"] != count:
            await asyncio.sleep(0.01)


def prompts(model):
    """What the model's engine was asked, in order."""
    return [json.loads(note["body"])["messages"][-1]["content"] for note in model.notes("request")]


# --- never a switch ---


@pytest.mark.parametrize("body", TASKS.values(), ids=TASKS)
async def test_d7_a_task_runs_on_the_resident(clean, body):
    reply = await clean.api.post("/v1/chat/completions", {"model": "two"} | body)
    assert reply.status == 200
    assert reply.headers["x-roundhouse-model"] == "one"
    assert clean.two.starts == 0


@pytest.mark.parametrize("body", CHATS.values(), ids=CHATS)
async def test_d7_what_only_looks_like_a_task_gets_its_model(clean, body):
    reply = await clean.api.post("/v1/chat/completions", {"model": "two"} | body)
    assert reply.status == 200
    assert clean.two.starts == 1
    assert clean.one.notes("request") == []


@pytest.mark.parametrize("headers", [{"x-roundhouse-task": "none"}, {"x-openwebui-task": ""}], ids=["ours", "empty"])
async def test_d7_a_header_says_that_it_is_no_task(clean, headers):
    reply = await clean.api.chat("two", headers, **user(TITLE))
    assert reply.headers["x-roundhouse-model"] == "two"


async def test_d7_embeddings_are_no_task(clean):
    """RAG's embeddings come with a chat that waits for them, and nothing else can make them."""
    reply = await clean.api.post("/v1/embeddings", {"model": "vectors", "input": TITLE})
    assert reply.status == 200
    assert clean.vectors.starts == 1


async def test_d7_a_task_has_no_lines_of_ours_in_its_answer(clean):
    events = await clean.api.events("two", {"user-agent": "curl/8"}, **user(TITLE))
    assert "Performance" not in events.text_of_answer


async def test_d7_a_task_ends_on_its_own_model_while_that_is_loaded(clean):
    assert (await clean.api.chat("two")).status == 200
    reply = await clean.api.chat("two", **user(TITLE))
    assert reply.headers["x-roundhouse-model"] == "two"


# --- where else ---


async def test_d7_task_model_has_what_no_other_loaded_model_can_do():
    with boxed(Place(), scheduling={"task_model": "helper"}) as box:
        for name in ("helper", "one"):
            assert (await box.api.post(f"/api/v1/models/{name}/load")).status == 200
        title = {"x-roundhouse-task": "title"}
        assert (await box.api.chat("two", title)).headers["x-roundhouse-model"] == "one"
        gate = box.place.gate("busy")
        async with box.api.stream("one", fake={"gate": str(gate), "gate_after": 1}) as busy:
            await busy.until("Hello")
            assert (await box.api.chat("two", title)).headers["x-roundhouse-model"] == "helper"
            gate.touch()
            await busy.events()
        await box.api.post("/api/v1/models/one/unload")
        assert (await box.api.chat("two", title)).headers["x-roundhouse-model"] == "helper"
        assert box.two.starts == 0


async def test_d7_queue_lets_tasks_wait_for_their_model():
    with boxed(Place(), scheduling={"tasks": "queue"}) as box:
        box.place.gate("load").touch()
        assert (await box.api.chat("one")).status == 200
        async with asking(box.api.chat("two", {"x-roundhouse-task": "title"})) as (task,):
            await waiting(box.api, "two", 1)
            assert (await box.api.chat("one")).status == 200
            assert box.two.starts == 0
            assert not task.done()
            assert (await box.api.chat("two")).status == 200
            assert (await task).headers["x-roundhouse-model"] == "two"
        assert box.two.starts == 1


async def test_d7_refuse_never_uses_another_model_and_says_so_quickly():
    with boxed(Place(), scheduling={"tasks": "refuse"}) as box:
        assert (await box.api.chat("one")).status == 200
        for stream in (False, True):
            reply = await box.api.chat("two", **user(TITLE), stream=stream)
            assert reply.status == 503
            assert reply.error()["code"] == "task_refused"
            assert int(reply.headers["retry-after"]) >= 1
            assert "'two' is not loaded" in reply.error()["message"]
        assert box.two.starts == 0
        assert len(box.one.notes("request")) == 1
        text = (await box.api.get("/metrics")).body.decode()
        assert 'roundhouse_background_tasks_total{served="none",task="title"} 2.0' in text


# --- interactive first ---


@pytest.mark.parametrize("model", ["one", "two"], ids=["own model", "resident"])
async def test_d7_people_go_first(clean, model):
    """The only slot is taken; a task comes, then a person: the person is next. `two`'s task would run on the resident."""
    gate = clean.place.gate(f"first-{model}")
    async with clean.api.stream("one", fake={"gate": str(gate), "gate_after": 1}) as busy:
        await busy.until("Hello")
        async with asking(clean.api.chat(model, **user(TITLE))) as (task,):
            await waiting(clean.api, model, 1)
            async with asking(clean.api.chat("one", **user("a person"))) as (person,):
                await waiting(clean.api, "one", 2 if model == "one" else 1)
                gate.touch()
                await busy.events()
                assert (await person).status == 200
                assert (await task).status == 200
    assert prompts(clean.one)[-2:] == ["a person", TITLE]
    assert clean.two.starts == 0


# --- the title that races ahead of its chat ---


async def test_d7_a_title_that_comes_first_begins_the_load_that_its_chat_joins(clean):
    """Nothing is loaded, so nothing has to leave for it. The chat comes later, and is answered first."""
    await clean.api.post("/api/v1/models/one/unload")
    clean.place.gate("load").unlink()
    async with asking(clean.api.chat("two", **user(TITLE))) as (title,):
        await clean.two.until("start")
        async with clean.api.stream("two", **user("hi")) as chat:
            await chat.until("⏳")
            clean.place.gate("load").touch()
            assert (await chat.events()).done
        assert (await title).headers["x-roundhouse-model"] == "two"
    assert clean.two.starts == 1
    assert prompts(clean.two) == ["hi", TITLE]


async def arrived(box, title):
    """Returns when Roundhouse has the title: it waits, or somebody has answered it."""
    async with asyncio.timeout(30):
        while not (title.done() or box.one.notes("request") or (await box.api.model("two"))["waiting"]):
            await asyncio.sleep(0.01)


async def both(box):
    """The answers to a title for `two`, and to its chat, which is sent once the title is there."""
    async with asking(box.api.chat("two", **user(TITLE))) as (title,):
        await arrived(box, title)
        chat = await box.api.chat("two", **user("hi"))
        return await title, chat


async def test_d7_a_title_waits_a_moment_for_its_chat_instead_of_holding_up_the_switch(clean):
    """On the resident it would be one more answer that the switch has to wait for."""
    title, chat = await both(clean)
    assert (title.status, chat.status) == (200, 200)
    assert title.headers["x-roundhouse-model"] == "two"
    assert clean.one.notes("request") == []
    assert prompts(clean.two) == ["hi", TITLE]
    assert clean.two.starts == 1


async def test_d7_a_title_is_not_refused_before_its_chat_can_have_come():
    with boxed(Place(), scheduling={"tasks": "refuse"}) as box:
        box.place.gate("load").touch()
        assert (await box.api.post("/api/v1/models/one/load")).status == 200
        title, chat = await both(box)
        assert (title.status, chat.status) == (200, 200)
        assert title.headers["x-roundhouse-model"] == "two"
        assert box.two.starts == 1


# --- names ---


async def test_d7_a_tasks_name_is_counted_and_kept(clean):
    await clean.api.chat("two", {"x-request-id": "named"}, **user(TITLE))
    await clean.api.chat("one", {"x-request-id": "indexing", "x-roundhouse-task": "Nightly Index"})
    await clean.api.chat("one", {"x-request-id": "chatting"})
    text = (await clean.api.get("/metrics")).body.decode()
    assert 'roundhouse_background_tasks_total{served="other",task="title"}' in text
    assert 'roundhouse_background_tasks_total{served="own",task="other"} 1.0' in text
    expected = {"named": "title", "indexing": "nightly_index", "chatting": ""}
    async with asyncio.timeout(30):
        while history(clean.place, expected) != expected:
            await asyncio.sleep(0.02)  # it is written behind the request


def history(place, ids):
    """The tasks' names by request, as far as they are written."""
    with sqlite3.connect(f"file:{place.state / 'roundhouse.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT id, task FROM requests").fetchall()
    return {name: task for name, task in rows if name in ids}


KEYS = [
    {"name": "webui", "hash": hash_key("sk-webui"), "trusted": True},
    {"name": "plain", "hash": hash_key("sk-plain"), "admin": True},
]


@pytest.mark.parametrize(
    ("keys", "key", "user_name"),
    [([], "", "u-1"), (KEYS, "sk-webui", "u-1"), (KEYS, "sk-plain", "")],
    ids=["no keys", "trusted", "not trusted"],
)
async def test_d5_users_behind_a_key_are_believed_of_trusted_keys(place, keys, key, user_name):
    place.write([Scripted(place.folder, "one")], keys=keys)
    async with inside(place) as house:
        seen = tickets(house)
        api = Api(place.port, {"authorization": f"Bearer {key}"} if key else {})
        headers = {"x-openwebui-user-id": "u-1", "x-openwebui-chat-id": "c-1"}
        assert (await api.chat("one", headers)).status == 200
        assert [(ticket.user, ticket.session) for ticket in seen] == [(user_name, "c-1")]


async def test_d4_agents_have_sessions_of_their_own(place):
    place.write([Scripted(place.folder, "one")])
    async with inside(place) as house:
        seen = tickets(house)
        api = Api(place.port)
        for headers, more in (
            ({"user-agent": "aider"}, {}),
            ({"user-agent": "aider"}, {}),  # over another connection
            ({"user-agent": "cline"}, {}),
            ({"user-agent": "cline"}, {"prompt_cache_key": "k"}),
        ):
            assert (await api.chat("one", headers, **more)).status == 200
        aider, again, cline, named = (ticket.session for ticket in seen)
        assert aider == again
        assert cline not in {aider, ""}
        assert named == "k"


def tickets(house):
    """What the supervisor is asked for from now on."""
    seen = []
    lease = house.supervisor.lease

    def watched(ticket):
        seen.append(ticket)
        return lease(ticket)

    house.supervisor.lease = watched
    return seen
