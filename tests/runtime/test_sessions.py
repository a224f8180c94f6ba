"""Requests get their slots, slots are saved and brought back (spec D11): against an engine that is a dictionary."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from roundhouse.core.model import Phase
from roundhouse.engines.llamacpp.slots import LlamaSlots
from roundhouse.ports import Endpoint, Reply, Served
from roundhouse.runtime import sessions as sessions_module
from roundhouse.runtime.desk import Ask
from roundhouse.runtime.sessions import Sessions
from roundhouse.runtime.shelf import Shelf

TEXT = b"The quick brown fox. " * 300
MORE = TEXT + b"And then? " * 20
OTHER = b"Something else. " * 300
TOKENS = 1500


class Engine:
    """Answers what `POST /slots/N` is sent, as llama-server does; `slots` are the tokens that each holds."""

    def __init__(self, folder, count: int = 2) -> None:
        self.folder, self.slots = folder, [0] * count
        self.asked: list[tuple[str, int]] = []
        self.answers = True
        self.status = 200
        self.full = False
        self.astray = False
        self.found = 0
        self.hold: asyncio.Event | None = None

    async def ask(self, _upstream, _endpoint, step) -> Reply:
        path, _, action = step.path.partition("?action=")
        if not action:
            self.asked.append(("trial", json.loads(step.body)["n_predict"]))
            timings = {"cache_n": self.found}
            return Reply(self.status, json.dumps({"timings": timings}).encode())
        if action == "erase":
            number = int(path.rpartition("/")[2])
            self.slots[number] = 0
            self.asked.append((action, number))
            return Reply(200, b"{}")
        number, name = int(path.rpartition("/")[2]), json.loads(step.body)["filename"]
        self.asked.append((action, number))
        if self.hold is not None:
            await self.hold.wait()
        if not self.answers:
            return Reply(0)
        if self.status != 200:
            return Reply(self.status, b'{"error":{"message":"not supported"}}')
        if action == "save":
            if not self.astray:
                (self.folder / name).write_bytes(b"%d" % self.slots[number])
            told = {"n_saved": self.slots[number], "n_written": 0 if self.full else 4}
        else:
            self.slots[number] = int((self.folder / name).read_bytes())
            told = {"n_restored": self.slots[number]}
        return Reply(200, json.dumps(told).encode())


class Box:
    """Sessions of one model with its engine."""

    def __init__(self, tmp_path, monkeypatch, slots: int = 2, window: int = 0) -> None:
        self.shelf = Shelf(tmp_path / "sessions", 10**9)
        self.engine = Engine(self.shelf.folder, slots)
        self.books: list[tuple[str, str]] = []
        self.wall = 0.0
        monkeypatch.setattr(sessions_module, "ask", self.engine.ask)
        notes = SimpleNamespace(conversation=self.note)
        self.sessions = Sessions(self.shelf, None, notes, self.report, self.time)
        self.faults: list[BaseException] = []
        self.life = SimpleNamespace(
            runnable=SimpleNamespace(
                config=SimpleNamespace(id="m"), conversations=LlamaSlots(1, window=window), state=lambda: "settings"
            ),
            served=Served(slots=slots, build="b1"),
            endpoint=Endpoint("h", 1),
            handle=SimpleNamespace(pid=77),
        )

    def note(self, model: str, what: str, tokens: int, seconds: float, reason: str = "") -> None:
        self.books.append((what, reason))

    def report(self, where: str, error: BaseException) -> None:
        self.faults.append(error)

    def time(self) -> float:
        self.wall += 1.0
        return self.wall

    async def start(self, instance: int = 1, *, fresh: bool = True) -> None:
        if not self.shelf.folder.exists():
            await self.shelf.open()
        self.engine.slots = [0] * len(self.engine.slots)
        self.sessions.opened(instance, self.life, fresh=fresh)

    async def stop(self, instance: int = 1) -> None:
        await self.sessions.keep(instance)
        self.sessions.closed(instance)

    async def answer(
        self, text: bytes | None, instance: int = 1, *, owner: str = "key", reused: int | None = None, choices: int = 1
    ):
        """A request from its seat to its end; the engine then holds it."""
        seat = await self.sessions.seat(instance, Ask(owner, (owner, "", "chat"), text, choices))
        assert seat is not None
        number = seat.slot.number if seat.slot is not None else 0
        found = self.engine.slots[number] if reused is None else reused
        self.engine.slots[number] = TOKENS
        timings = {
            "cache_n": found if seat.restored or reused is not None else 0,
            "prompt_n": 1000,
            "prompt_ms": 5000.0,
        }
        self.sessions.left(instance, seat, timings, TOKENS, good=True)
        return seat


@pytest.fixture
async def box(tmp_path, monkeypatch):
    made = Box(tmp_path, monkeypatch)
    yield made
    await made.sessions.close()
    assert made.faults == []


async def test_d11_a_conversation_survives_a_switch(box):
    await box.start(1)
    await box.answer(TEXT)
    await box.stop(1)
    await box.start(2)
    seat = await box.answer(MORE, 2)
    assert seat.restored is not None
    assert seat.fields == {"id_slot": seat.slot.number}
    assert box.engine.asked == [("save", 0), ("restore", 0)]
    assert [what for what, _ in box.books] == ["saved", "restored"]
    assert box.sessions.told("m") == {"kept": 1, "bytes": 4, "saved": 1, "restored": 1, "failed": 0, "off": None}


async def test_d11_requests_get_slots_of_their_own_and_theirs_again(box):
    await box.start()
    first, second = await box.answer(TEXT), await box.answer(OTHER)
    assert (first.slot.number, second.slot.number) == (0, 1)
    assert (await box.answer(MORE)).slot.number == 0
    assert box.engine.asked == []


async def test_d11_what_a_task_would_overwrite_is_saved_first_and_brought_back(tmp_path, monkeypatch):
    box = Box(tmp_path, monkeypatch, slots=1)
    await box.start()
    await box.answer(TEXT)
    await box.answer(b"Make a title: " * 20)
    seat = await box.answer(MORE)
    assert seat.restored is not None
    assert box.engine.asked == [("save", 0), ("save", 0), ("restore", 0)]


async def test_d11_nothing_of_one_key_is_used_for_another(box):
    await box.start(1)
    await box.answer(TEXT)
    await box.stop(1)
    await box.start(2)
    seat = await box.answer(MORE, 2, owner="another")
    assert (seat.restored, seat.fields) == (None, {"id_slot": 0})
    box.sessions.left(2, await seat_of(box, OTHER, 2), None, TOKENS, good=True)
    third = await seat_of(box, MORE, 2, owner="a third")
    assert third.fields["cache_prompt"] is False


async def seat_of(box, text, instance=1, owner="key"):
    seat = await box.sessions.seat(instance, Ask(owner, (owner, "", "chat"), text))
    assert seat is not None
    return seat


async def test_d11_the_slots_of_an_adopted_engine_are_not_known(box):
    await box.start(fresh=False)
    assert (await seat_of(box, TEXT)).fields == {"id_slot": 0, "cache_prompt": False}


async def test_d11_what_an_adopted_engines_slots_hold_was_written_down(box):
    await box.start()
    await box.answer(TEXT)
    await box.answer(OTHER)
    await box.sessions._tasks.wait(10)
    later = Shelf(box.shelf.folder, 10**9)  # as after a crash: nothing was said to end
    await later.open()
    box.sessions.shelf = later
    box.sessions.opened(2, box.life, fresh=False)
    seat = await seat_of(box, MORE, 2)
    assert (seat.fields, seat.restored) == ({"id_slot": 0}, None)
    another = await seat_of(box, OTHER, 2, owner="another")
    assert another.fields["cache_prompt"] is False


async def test_d11_a_table_is_for_one_process_and_gone_with_it(box):
    await box.start()
    await box.answer(TEXT)
    await box.sessions._tasks.wait(10)
    tables = list(box.shelf.folder.glob("*.slots"))
    assert [table.name for table in tables] == ["1-77.slots"]
    assert tables[0].stat().st_mode & 0o777 == 0o600
    later = Shelf(box.shelf.folder, 10**9)
    await later.open()
    assert later.table("1-78") == {}
    assert set(later.table("1-77")) == {0}
    assert later.table("1-77") == {}
    await box.start(3)
    box.sessions.closed(3)
    await box.sessions._tasks.wait(10)
    assert list(box.shelf.folder.glob("*.slots")) == []


async def test_d11_without_a_free_slot_the_engine_chooses(box):
    await box.start()
    seats = [await seat_of(box, TEXT), await seat_of(box, OTHER), await seat_of(box, TEXT)]
    assert [seat.slot is None for seat in seats] == [False, False, True]
    assert seats[2].fields == {"cache_prompt": False}  # what those that are busy will hold is not known


async def test_d11_where_the_engine_chooses_nothing_of_another_key_is_used(box):
    await box.start()
    assert (await box.answer(TEXT, owner="mine", choices=2)).fields == {}  # nothing is there yet
    await box.start(2)
    await box.answer(TEXT, 2, owner="mine")
    assert (await box.answer(TEXT, 2, owner="yours", choices=2)).fields == {"cache_prompt": False}


async def test_d11_an_answer_of_many_choices_is_left_to_the_engine_and_costs_no_conversation(box):
    await box.start()
    await box.answer(TEXT)
    seat = await box.answer(OTHER, choices=3)
    assert seat.fields == {}
    assert box.engine.asked == [("save", 0)]
    assert (await seat_of(box, b"x" * 900)).fields["cache_prompt"] is False  # what its slots hold now is not known


async def test_a7_what_passes_the_desk_costs_no_conversation_and_nothing_is_relied_on_afterwards(box):
    await box.start()
    await box.answer(TEXT)
    await box.sessions.passing(1)
    assert box.engine.asked == [("save", 0)]
    meanwhile = await seat_of(box, OTHER)
    box.sessions.left(1, meanwhile, None, TOKENS, good=True)  # noted, but the other request may have been after it
    box.sessions.passed(1)
    assert (await seat_of(box, OTHER)).fields["cache_prompt"] is False
    await box.stop()
    assert box.engine.asked == [("save", 0)]  # nobody's conversation is saved as somebody's


async def test_a7_an_engine_without_a_desk_is_passed_to_at_once(box):
    await box.sessions.passing(9)
    box.sessions.passed(9)
    assert box.engine.asked == []


async def test_d11_a_restore_that_the_engine_does_not_use_is_counted_dropped_and_then_given_up(box):
    await box.start(1)
    for number in (1, 2):
        await box.answer(TEXT, number)
        await box.stop(number)
        await box.start(number + 1)
        seat = await box.answer(MORE, number + 1, reused=0)
        assert seat.restored is not None
        await box.sessions._tasks.wait(10)
        assert box.shelf.saved == {}
        await box.stop(number + 1) if number == 2 else None
    told = box.sessions.told("m")
    assert (told["restored"], told["failed"]) == (0, 2)
    assert told["off"] == "the engine used 0 of about 1500 restored tokens"
    saves = len(box.engine.asked)
    await box.start(9)
    await box.answer(OTHER, 9)
    await box.stop(9)
    assert len(box.engine.asked) == saves


async def test_d11_another_state_of_the_engine_reads_nothing_and_is_tried_anew(box):
    await box.start(1)
    await box.answer(TEXT)
    await box.stop(1)
    box.life.runnable.state = lambda: "another quantisation"
    await box.start(2)
    assert (await box.answer(MORE, 2)).restored is None
    assert box.sessions.told("m")["saved"] == 0


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"status": 501}, 'it could not be saved: the engine said 501 {"error":{"message":"not supported"}}'),
        ({"answers": False}, "it could not be saved: the engine did not answer in time"),
        ({"full": True}, "None tokens were saved, not the 1500 that were expected"),
        ({"astray": True}, "1500 tokens were saved, but not where they were to go"),
        ({"slots": [7, 7]}, "7 tokens were saved, not the 1500 that were expected"),
    ],
)
async def test_d11_what_can_not_be_saved_is_told_and_leaves_nothing(box, trouble, reason):
    await box.start()
    await box.answer(TEXT)
    for name, value in trouble.items():
        setattr(box.engine, name, value)
    await box.stop()
    assert box.books == [("failed", reason)]
    await box.sessions._tasks.wait(10)
    assert list(box.shelf.folder.iterdir()) == []


async def test_d11_an_engine_that_does_not_answer_is_not_asked_for_each_slot(box):
    await box.start()
    await box.answer(TEXT)
    await box.answer(OTHER)
    box.engine.answers = False
    await box.stop()
    assert len(box.engine.asked) == 1


async def test_d11_what_can_not_be_read_is_computed_anew_and_dropped(box):
    await box.start(1)
    await box.answer(TEXT)
    await box.stop(1)
    await box.start(2)
    box.engine.status = 400
    seat = await box.answer(MORE, 2)
    assert (seat.restored, box.shelf.saved) == (None, {})
    assert seat.fields["cache_prompt"] is False


async def test_d11_what_is_too_large_is_told(box):
    box.shelf.budget = 100
    await box.start()
    await box.answer(TEXT)
    await box.stop()
    assert box.books == [("failed", "there is no room for 1.5 KiB (sessions.budget, or the disk)")]


async def test_d11_what_idle_slots_of_a_draining_engine_hold_is_saved_while_others_answer(box):
    await box.start()
    await box.answer(TEXT)
    running = await seat_of(box, OTHER)
    instance = SimpleNamespace(id=1, model="m", phase=Phase.DRAINING)
    box.sessions.look(SimpleNamespace(live=lambda: [instance]))
    await box.sessions._tasks.wait(10)
    assert box.engine.asked == [("save", 0)]
    assert running.slot.number == 1
    box.sessions.look(SimpleNamespace(live=lambda: [instance]))
    await box.stop()
    assert box.engine.asked == [("save", 0)]


async def test_d11_a_request_waits_for_the_save_of_its_slot(tmp_path, monkeypatch):
    box = Box(tmp_path, monkeypatch, slots=1)
    await box.start()
    await box.answer(TEXT)
    box.engine.hold = asyncio.Event()
    saving = asyncio.get_running_loop().create_task(box.sessions.keep(1))
    while not box.engine.asked:
        await asyncio.sleep(0)
    seating = asyncio.get_running_loop().create_task(seat_of(box, MORE))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not seating.done()
    box.engine.hold.set()
    assert (await seating).slot.number == 0
    await saving


async def test_d11_a_client_that_leaves_while_its_conversation_is_read_leaves_a_free_slot(tmp_path, monkeypatch):
    box = Box(tmp_path, monkeypatch, slots=1)
    await box.start(1)
    await box.answer(TEXT)
    await box.stop(1)
    await box.start(2)
    box.engine.hold = asyncio.Event()
    seating = asyncio.get_running_loop().create_task(seat_of(box, MORE, 2))
    while ("restore", 0) not in box.engine.asked:
        await asyncio.sleep(0)
    seating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await seating
    box.engine.hold = None
    seat = await seat_of(box, OTHER, 2)
    assert (seat.slot.number, seat.fields["cache_prompt"]) == (0, False)  # half read: nobody knows what it holds


async def test_d11_an_answer_that_was_broken_off_is_saved_by_what_the_engine_holds(box):
    await box.start()
    seat = await seat_of(box, TEXT)
    box.engine.slots[0] = 1400
    box.sessions.left(1, seat, None, None, good=True)
    await box.stop()
    (saved,) = box.shelf.saved.values()
    assert saved.conversation.tokens == 1400


async def test_d11_a_request_that_the_engine_refused_leaves_nothing_to_save(box):
    await box.start()
    box.sessions.left(1, await seat_of(box, TEXT), None, None, good=False)
    await box.stop()
    assert box.engine.asked == []


# --- a sliding window ---


async def restored(tmp_path, monkeypatch, window: int = 512):
    """A box whose only slot has just got its conversation back, and the seat of the request that goes on with it."""
    box = Box(tmp_path, monkeypatch, slots=1, window=window)
    await box.start()
    await box.answer(TEXT)
    await box.stop()
    await box.start(2)
    seat = await box.sessions.seat(2, Ask("key", ("key", "", "chat"), MORE))
    box.engine.asked.clear()
    return box, seat


async def test_d11_a_restored_window_is_used_by_what_goes_on_after_its_end(tmp_path, monkeypatch):
    box, seat = await restored(tmp_path, monkeypatch)
    assert seat.floor == TOKENS
    box.engine.found = TOKENS
    assert await seat.desk.holds_up(seat, "/v1/chat/completions", b'{"max_tokens": 9, "stream": true}')
    assert box.engine.asked == [("trial", 0)]
    assert seat.fields == {"id_slot": 0}
    box.sessions.left(2, seat, {"cache_n": TOKENS + 100, "prompt_n": 1, "prompt_ms": 9.0}, TOKENS + 200, good=True)
    assert box.sessions.tallies["m"].restored == 1
    later = await box.sessions.seat(2, Ask("key", ("key", "", "chat"), MORE + MORE))
    assert later.floor == TOKENS  # nor may a later one go back
    box.sessions.left(2, later, None, None, good=False)
    await box.sessions.close()


@pytest.mark.parametrize(("found", "status"), [(TOKENS - 1, 200), (0, 200), (0, 500), (0, 0)])
async def test_d11_what_goes_back_in_a_restored_window_is_computed_anew(tmp_path, monkeypatch, found, status):
    box, seat = await restored(tmp_path, monkeypatch)
    box.engine.found, box.engine.status = found, status
    assert not await seat.desk.holds_up(seat, "/v1/chat/completions", b"{}")
    assert seat.fields == {"id_slot": 0, "cache_prompt": False}
    box.sessions.left(2, seat, {"cache_n": 0, "prompt_n": 1500, "prompt_ms": 9.0}, TOKENS, good=True)
    tally = box.sessions.tallies["m"]
    assert (tally.restored, tally.failed) == (0, 1 if status == 200 else 0)
    again = await box.sessions.seat(2, Ask("key", ("key", "", "chat"), MORE + MORE))
    assert again.floor == 0  # what the slot holds now was computed there
    box.sessions.left(2, again, None, None, good=False)
    await box.sessions.close()


async def test_d11_what_fits_into_the_window_is_whole(tmp_path, monkeypatch):
    box, seat = await restored(tmp_path, monkeypatch, window=TOKENS)
    assert seat.floor == 0
    box.sessions.left(2, seat, None, None, good=False)
    await box.sessions.close()


async def test_a7_what_passes_the_desk_meets_no_restored_window(tmp_path, monkeypatch):
    box, seat = await restored(tmp_path, monkeypatch)
    box.sessions.left(2, seat, None, TOKENS, good=True)
    await box.sessions.passing(2)
    assert ("erase", 0) in box.engine.asked
    await box.sessions.close()


async def test_d11_a_later_roundhouse_knows_of_the_floor(tmp_path, monkeypatch):
    box, seat = await restored(tmp_path, monkeypatch)
    box.sessions.left(2, seat, None, TOKENS, good=True)
    await box.sessions.close()
    later = Box(tmp_path, monkeypatch, slots=1, window=512)
    await later.shelf.open()
    await later.start(3, fresh=False)
    seat = await later.sessions.seat(3, Ask("key", ("key", "", "chat"), MORE + MORE))
    assert seat.floor == TOKENS
    later.sessions.left(3, seat, None, None, good=False)
    await later.sessions.close()


async def test_d11_without_a_shelf_requests_have_no_seats(tmp_path, monkeypatch):
    box = Box(tmp_path, monkeypatch)
    box.sessions.shelf = None
    box.sessions.opened(1, box.life, fresh=True)
    assert not box.sessions.has(1)
    assert await box.sessions.seat(1, Ask("key", ("", "", ""), TEXT)) is None
