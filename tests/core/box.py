"""A whole box in virtual time, with one oracle per rule of the scheduler.

`Box` plays everything around the core: clients, engines, foreign programs, the clock. It keeps its own books, made only
from the events it sent and the actions it got, and holds every step against them. Nothing here calls the planner's own
arithmetic: an oracle that shares the code it judges can't find its faults.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from roundhouse.core.chronicle import Chronicle
from roundhouse.core.model import (
    Arrived,
    Asked,
    BecameReady,
    Cancelled,
    Claim,
    ClosingTime,
    Cut,
    Departed,
    Device,
    Event,
    Exited,
    Fleet,
    Found,
    Grant,
    Instance,
    InstanceId,
    Kind,
    Measured,
    ModelSpec,
    Phase,
    Policy,
    Prefetch,
    ReadAhead,
    Refuse,
    Reloaded,
    Start,
    Stop,
    Surveyed,
    TaskRule,
    Tick,
    Ticket,
    Want,
)
from roundhouse.core.planner import next_wakeup, step, whole_step
from roundhouse.core.switching import Switches
from roundhouse.core.waiting import explain
from roundhouse.errors import (
    LoadFailed,
    NoRoom,
    QueueFull,
    QueueTimeout,
    RequestCancelled,
    ShuttingDown,
    TaskRefused,
    TooManyRequests,
    UnknownModel,
)

FAILURE_WINDOW, BACKOFF_FIRST, BACKOFF_MOST = 600.0, 5.0, 300.0
PRESENT = (Phase.STARTING, Phase.READY)


@dataclass
class Engine:
    """What the world knows of an engine: made by Start or Found, gone after Exited."""

    model: str
    claim: dict[str, int]
    slots: int = 1
    ready_at: float | None = None
    stopped: bool = False
    unload_asked: bool = False
    answers: set[int] = field(default_factory=set)
    draining_since: float | None = None
    unwanted_since: float | None = None
    asked: bool = False
    for_room: bool = False
    used: float = 0.0
    settings: str = ""


class Box:
    """The world. Each method is something that can happen; `happens` is the one way into the core."""

    def __init__(self, specs: list[ModelSpec], devices: list[Device], policy: Policy) -> None:
        self.fleet = Fleet(specs, devices, policy)
        self.specs = {spec.id: spec for spec in specs}
        self.policy = policy
        self.now = 1000.1
        self.late = False
        self.engines: dict[InstanceId, Engine] = {}
        self.waiting: dict[int, Ticket] = {}
        self.answering: dict[int, InstanceId] = {}
        self.failures: dict[str, list[float]] = {}
        self.backoff: dict[str, float] = {}
        self.idle_since: dict[str, float] = {}
        self.blocked_since: dict[str, float] = {}
        self.loads = {spec.id: spec.expected or 0.0 for spec in specs}
        self.asked_by: dict[int, Ticket] = {}
        self.made_room: dict[str, float] = {}
        self.tickets = 0
        self.prefetched: Prefetch | None = None
        self.starts: list[str] = []
        self.configured = set(self.specs)
        self.chronicle, self.switches = Chronicle(), Switches()
        self.timed: dict[str, float] = {}

    # --- what can happen ---

    def arrives(
        self,
        model: str,
        key: str = "",
        priority: int = 0,
        task: bool = False,
        allowed: frozenset[str] | None = None,
        session: str = "",
    ) -> int:
        self.tickets += 1
        self.happens(Arrived(Ticket(self.tickets, model, self.now, key, priority, task, allowed, session=session)))
        return self.tickets

    def departs(self, ticket: int) -> None:
        self.happens(Departed(ticket))

    def cancels(self, ticket: int) -> None:
        self.happens(Cancelled(ticket, "boss"))

    def becomes_ready(self, instance: InstanceId, slots: int | None, seconds: float = 1.0) -> None:
        self.happens(BecameReady(instance, slots, seconds))

    def exits(self, instance: InstanceId, expected: bool = False, short: bool = False) -> None:
        self.happens(Exited(instance, "CUDA error", expected=expected, short=short))

    def foreign(self, device: str, size: int) -> None:
        before = self.fleet.devices[device]
        self.happens(Surveyed((Device(device, before.total, before.physical, size, ("firefox (pid 7, 1 GiB)",)),)))

    def reloads(self, specs: list[ModelSpec], policy: Policy) -> None:
        """Another configuration. What is not configured any more is remembered, as its engine may live on."""
        leaving = {
            number
            for number, engine in self.engines.items()
            if engine.draining_since is not None and not engine.for_room and not self.outdated(engine)
        }
        for spec in specs:
            known = self.fleet.models.get(spec.id)
            if known is None:
                for book in (self.idle_since, self.made_room):
                    book.pop(spec.id, None)
            if known is None or spec.claim != known.spec.claim:
                self.blocked_since.pop(spec.id, None)
            if known is None or spec.settings != known.spec.settings:
                for book in (self.failures, self.backoff, self.timed):
                    book.pop(spec.id, None)
            self.loads[spec.id] = self.timed.get(spec.id, spec.expected or 0.0)
        self.specs |= {spec.id: spec for spec in specs}
        self.configured = {spec.id for spec in specs}
        self.policy = policy
        self.prefetched = None
        for number, engine in self.engines.items():
            if engine.ready_at is None and not engine.stopped and self.outdated(engine):
                self.idle_since[engine.model] = self.now
            if number in leaving and self.specs[engine.model].pinned:
                engine.unload_asked = True  # it was leaving when it was pinned, for neither room nor its settings
        devices = tuple(self.fleet.devices.values())
        self.happens(Reloaded(tuple(specs), devices, policy))

    def outdated(self, engine: Engine) -> bool:
        """It runs with other settings than are configured, or for a model that is not configured."""
        return engine.model not in self.configured or engine.settings != self.specs[engine.model].settings

    def passes(self, seconds: float, late: bool = False) -> None:
        """Time passes to the next wakeup or by `seconds`, whichever is earlier (`late`: the wakeup is missed for now)."""
        if self.late and not late:
            self.happens(Tick())
        due = next_wakeup(self.fleet, self.now)
        until = self.now + seconds
        if late or due is None or until < due:
            if not late:
                self._check_nothing_is_missed(until)
            self.late = self.late or (due is not None and until >= due)
            self.now = until
            return
        if self.now < (self.now + due) / 2 < due:
            self._check_nothing_is_missed((self.now + due) / 2)
        self.now = max(self.now, due)
        self.happens(Tick())

    def _check_nothing_is_missed(self, until: float) -> None:
        """Between now and the next wakeup, time alone changes nothing."""
        if self.late:
            return
        twin = self.fleet.copy()
        actions = whole_step(twin, Tick(), until)
        assert not actions, f"missed by next_wakeup: {actions}"
        assert twin == self.fleet, f"missed by next_wakeup: {twin} is not {self.fleet}"

    # --- one step and its oracles ---

    def happens(self, event: Event) -> None:
        before = self.fleet.copy()
        whole = self.fleet.copy()
        actions = self.step(event)
        self._observe(event, actions)
        self._check_short_way(whole, event, actions)
        if self.late:
            actions = actions + self.step(Tick())
        self.late = False
        self._check_fixed_point()
        if isinstance(event, Cancelled):
            self._check_cancelled(event, actions)
        self._note(event)
        for action in actions:
            self._note_action(action, event, before)
        self._after(event, before, actions)

    def _check_cancelled(self, event: Cancelled, actions: list) -> None:
        """Whoever waits or is answered hears of it once, and nobody else does."""
        heard = [(type(a), a.ticket.id) for a in actions if isinstance(getattr(a, "error", None), RequestCancelled)]
        kind = Refuse if event.ticket in self.waiting else Cut if event.ticket in self.answering else None
        assert heard == ([(kind, event.ticket)] if kind else [])

    def _observe(self, event: Event, actions: list) -> None:
        """Those who tell what happens can make something of whatever happens."""
        self.chronicle.saw(self.fleet, event, actions, self.now)
        self.switches.saw(self.fleet, event, actions, self.now)
        for model in self.fleet.models.values():
            for ticket in model.queue[:1]:
                assert explain(self.fleet, ticket, self.now).details

    def step(self, event: Event) -> list:
        return step(self.fleet, event, self.now)

    def _check_short_way(self, whole: Fleet, event: Event, actions: list) -> None:
        """The short way, with the Tick that follows, is the whole step."""
        all_whole = whole_step(whole, event, self.now) + whole_step(whole, Tick(), self.now)
        quick = self.fleet.copy()
        all_quick = actions + whole_step(quick, Tick(), self.now)
        assert _plain(all_quick) == _plain(all_whole)
        assert quick == whole

    def _check_fixed_point(self) -> None:
        twin = self.fleet.copy()
        more = whole_step(twin, Tick(), self.now)
        assert not more, f"a second Tick at the same time did {more}"
        assert twin == self.fleet, f"a second Tick at the same time changed {self.fleet} to {twin}"
        due = next_wakeup(self.fleet, self.now)
        assert due is None or due > self.now, f"next_wakeup {due} is not after {self.now}"

    def _note(self, event: Event) -> None:
        """Writes the event into the world's own books."""
        if isinstance(event, Arrived):
            self.waiting[event.ticket.id] = self.asked_by[event.ticket.id] = event.ticket
        elif isinstance(event, Departed):
            self.waiting.pop(event.ticket, None)
            instance = self.answering.pop(event.ticket, None)
            if instance in self.engines:
                self.engines[instance].answers.discard(event.ticket)
                self.engines[instance].used = self.now
        elif isinstance(event, BecameReady):
            engine = self.engines[event.instance]
            engine.ready_at = engine.used = self.now
            engine.slots = self.specs[engine.model].slots or event.slots or 1
            self.idle_since[engine.model] = self.now
            self.loads[engine.model] = self.timed[engine.model] = event.seconds
        elif isinstance(event, Found):
            engine = Engine(event.model, self.need(self.specs[event.model].claim), asked=True, used=self.now)
            engine.settings = self.specs[event.model].settings
            engine.slots = self.specs[event.model].slots or event.slots or 1
            engine.ready_at = self.now if event.ready else None
            self.engines[event.instance] = engine
        elif isinstance(event, Exited):
            self._note_exit(event)
        elif isinstance(event, Measured):
            self.engines[event.instance].claim.update(event.claim)
        elif isinstance(event, Asked):
            self._note_asked(event)

    def _note_asked(self, event: Asked) -> None:
        living = [e for e in self.engines.values() if e.model == event.model]
        if event.model not in self.configured and event.want is Want.LOAD:
            return
        if event.want is Want.UNLOAD:
            if any(e.ready_at is None and not e.stopped for e in living):
                self.idle_since[event.model] = self.now
            for engine in living:
                engine.unload_asked = True
                engine.asked = False
            return
        if all(e.stopped or self.outdated(e) for e in living):
            self.failures.pop(event.model, None)
            self.backoff.pop(event.model, None)
        for engine in living:
            engine.asked = True
            engine.unload_asked = engine.unload_asked and engine.stopped

    def _note_exit(self, event: Exited) -> None:
        engine = self.engines.pop(event.instance)
        self.idle_since[engine.model] = self.now
        if engine.stopped and engine.for_room:
            self.made_room[engine.model] = self.now
        if event.expected or engine.stopped:
            return
        recent = [t for t in self.failures.get(engine.model, []) if self.now - t < FAILURE_WINDOW] + [self.now]
        self.failures[engine.model] = recent
        if len(recent) >= 3:
            self.backoff[engine.model] = self.now + min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** (len(recent) - 3))

    def _note_action(self, action: object, event: Event, before: Fleet) -> None:
        if isinstance(action, Prefetch):
            self._check_prefetch(action)
            self.prefetched = action
        elif isinstance(action, Start):
            self._check_start(action)
            self.starts.append(action.model)
            self.prefetched = None
            assert action.model in self.configured, "started what is not configured"
            settings = self.specs[action.model].settings
            self.engines[action.instance] = Engine(action.model, dict(action.claim), used=self.now, settings=settings)
            self.engines[action.instance].asked = (
                before.models[action.model].asked is not None
                or (isinstance(event, Asked) and event.want is Want.LOAD and event.model == action.model)
                or self._asked_again(event, before) == action.model
                or self._comes_back(event, before) == action.model
            )
        elif isinstance(action, Stop):
            self._check_stop(action)
            self.engines[action.instance].stopped = True
        elif isinstance(action, Grant):
            self._check_grant(action, event, before)
            del self.waiting[action.ticket.id]
            self.answering[action.ticket.id] = action.instance
            self.engines[action.instance].answers.add(action.ticket.id)
            self.engines[action.instance].used = self.now
        elif isinstance(action, Cut):
            assert event == Cancelled(action.ticket.id, "boss"), f"cut by nobody: {action}"
            assert action.ticket.id in self.answering, f"cut what is not answered: {action}"
        elif isinstance(action, Refuse):
            assert action.ticket.id in self.waiting, f"answered twice or after it left: {action}"
            self._check_refusal(action, event, before)
            del self.waiting[action.ticket.id]

    def _asked_again(self, event: Event, before: Fleet) -> str | None:
        """The model that an operator asked for and that is tried once more, as it found too little memory."""
        if not isinstance(event, Exited) or not event.short:
            return None
        instance = before.models[before.instances[event.instance]].instance
        assert instance is not None
        return instance.model if instance.asked and instance.phase is Phase.STARTING else None

    def _comes_back(self, event: Event, before: Fleet) -> str | None:
        """The model whose engine was ended for its settings alone, and is started again."""
        if not isinstance(event, Exited) or event.instance not in before.instances:
            return None
        instance = before.models[before.instances[event.instance]].instance
        assert instance is not None
        return instance.model if instance.leaving == "its settings have changed" else None

    # --- oracles on actions ---

    def usable(self, device: str) -> int:
        found = self.fleet.devices[device]
        return found.total - max(0, found.foreign - max(0, found.physical - found.total))

    def need(self, claim: Claim) -> dict[str, int]:
        """Who claims a whole device wants all that others leave of it; one that they have whole has nothing to want."""
        found = {}
        for device, size in claim.items():
            whole = device in self.fleet.devices and size == self.fleet.devices[device].total
            found[device] = self.usable(device) if whole and self.usable(device) > 0 else size
        return found

    def held(self, device: str) -> int:
        return sum(engine.claim.get(device, 0) for engine in self.engines.values())

    def _check_start(self, action: Start) -> None:
        assert not self.fleet.closing
        assert all(e.model != action.model for e in self.engines.values()), "two engines of one model"
        for device, size in action.claim.items():
            assert self.held(device) + size <= self.usable(device), f"{device} oversubscribed by {action}"
            loading = [e for e in self.engines.values() if e.ready_at is None and not e.stopped and device in e.claim]
            assert not loading, f"two loads at a time on {device}: {action.model} beside {loading}"
        waiters = [t for t in self.waiting.values() if t.model == action.model]
        asked = self.fleet.models[action.model].instance
        assert waiters or (asked is not None and asked.asked), "started for nobody"

    def _check_prefetch(self, action: Prefetch) -> None:
        assert self.policy.prefetch is not ReadAhead.OFF
        assert not self.fleet.closing
        assert self.specs[action.model].local, f"nothing of {action.model} can be read"
        assert all(e.model != action.model for e in self.engines.values()), f"{action.model} has an engine already"
        assert action != self.prefetched, f"{action} said twice"
        if action.wanted:
            assert self._wanted_since(action.model) is not None, f"nobody waits for {action.model}"
            return
        assert self.policy.prefetch is ReadAhead.LEARNED
        assert not self.waiting, "read ahead by guess although somebody waits"
        assert all(e.ready_at is not None or e.stopped for e in self.engines.values()), "read by guess during a load"
        loaded = {e.model for e in self.engines.values()}
        followed = [b for a, b in zip(self.starts, self.starts[1:], strict=False) if a in loaded]
        assert followed.count(action.model) >= 3, f"{action.model} was not learned: {self.starts}"

    def _check_next_is_read(self) -> None:
        """Whoever is next and has weights here is being read; when nobody is, that is over."""
        due = [name for _, name, _ in self._candidates() if self.specs[name].local]
        if not due and self.prefetched is not None and self.prefetched.wanted:
            self.prefetched = None
        if due and self.policy.prefetch is not ReadAhead.OFF:
            assert self.prefetched == Prefetch(due[0], wanted=True), f"{due[0]} is next, read is {self.prefetched}"

    def _check_stop(self, action: Stop) -> None:
        engine = self.engines[action.instance]
        assert not engine.stopped, "stopped twice"
        limit = self.policy.drain_timeout
        if engine.answers:
            assert limit is not None, "an answer was cut"
            assert engine.draining_since is not None, "an answer was cut without draining"
            assert self.now >= engine.draining_since + limit - 1e-6, "an answer was cut before the drain limit"
        if engine.ready_at is None:
            unwanted = engine.unwanted_since
            given_up = unwanted is not None and self.now >= unwanted + self.policy.unwanted_grace
            assert engine.unload_asked or given_up or self.outdated(engine), "a load was ended without reason"
        elif self.specs[engine.model].pinned:
            assert engine.unload_asked or self.outdated(engine), "a pinned model left"

    def _check_grant(self, action: Grant, event: Event, before: Fleet) -> None:
        ticket = action.ticket
        assert ticket.id in self.waiting, f"answered twice or after it left: {action}"
        engine = self.engines[action.instance]
        assert engine.ready_at is not None, "granted on an engine that is not ready"
        assert not engine.stopped, "granted on an engine that was told to stop"
        assert len(engine.answers) < engine.slots, "granted above the slots"
        assert engine.model == action.model
        was, now = before.models[engine.model].instance, self.fleet.models[engine.model].instance
        both = [i.phase for i in (was, now) if i is not None]
        if both == [Phase.DRAINING, Phase.DRAINING]:
            # Called back, granted what came before the one who wants its place now, and sent away again.
            recalled = event == Asked(engine.model, Want.LOAD)
            since = (
                self._wanted_since(now.leaving.removeprefix("room for ")) if now is not None and now.for_room else None
            )
            assert recalled or (since is not None and ticket.arrived <= since), "granted on a draining engine"
        if action.model != ticket.model:
            assert ticket.task, "a request went to another model"
            assert self.policy.tasks is TaskRule.RESIDENT
            assert ticket.allowed is None or action.model in ticket.allowed, "a task went where its key may not"
            assert self.specs[action.model].kind is self.specs[ticket.model].kind is Kind.CHAT
            assert all(e.model != ticket.model for e in self.engines.values()), "moved although its own model is here"
            assert self.now >= ticket.arrived + self.policy.task_hold, "moved before its chat could come"
        for other in self.waiting.values():
            if other.model == action.model and ticket.model == action.model and other.id != ticket.id:
                mine, theirs = (ticket.task, -ticket.priority), (other.task, -other.priority)
                same = (ticket.key, ticket.user) == (other.key, other.user)
                assert mine <= theirs, f"{ticket} before {other}"
                assert not same or mine < theirs or ticket.id < other.id, f"{ticket} before {other}"

    def _check_refusal(self, action: Refuse, event: Event, before: Fleet) -> None:
        """Every refusal has its reason in the world."""
        ticket, error = action.ticket, action.error
        engine = next((e for e in self.engines.values() if e.model == ticket.model), None)
        arrived_now = isinstance(event, Arrived) and event.ticket.id == ticket.id
        if isinstance(error, QueueTimeout):
            assert engine is None or engine.ready_at is not None or engine.stopped, "timed out during its load"
            start = max(ticket.arrived, self.idle_since.get(ticket.model, 0.0))
            assert self.now >= start + self.policy.queue_timeout
        elif isinstance(error, TaskRefused):
            assert ticket.task
            assert engine is None
            assert self.policy.tasks is not TaskRule.QUEUE
            assert self.now >= ticket.arrived + self.policy.task_hold, "refused before its chat could come"
        elif isinstance(error, NoRoom):
            needed = self.fleet.models[ticket.model].claim
            staying: dict[str, int] = {}
            for e in self.engines.values():
                if self.specs[e.model].pinned and not e.stopped and not e.unload_asked:
                    for device, size in e.claim.items():
                        staying[device] = staying.get(device, 0) + size
            totals = {d.id: d.total for d in self.fleet.devices.values()}
            never = any(size > totals.get(device, 0) - staying.get(device, 0) for device, size in needed.items())
            now = any(
                size > self.usable(device) - staying.get(device, 0)
                for device, size in self.need(needed).items()
                if device in totals
            )
            since = self.blocked_since.get(ticket.model)
            held_up = now and since is not None and self.now >= since + self.policy.memory_wait
            assert never or held_up, f"refused for room without need: {error}"
        elif isinstance(error, LoadFailed):
            failed_now = isinstance(event, Exited) and before.instances[event.instance] == ticket.model
            assert failed_now or self.backoff.get(ticket.model, 0.0) > self.now
            assert error.retry_after is not None
            assert error.retry_after > 0
        elif isinstance(error, RequestCancelled):
            assert event == Cancelled(ticket.id, "boss")
        elif isinstance(error, UnknownModel):
            assert ticket.model not in self.configured
        elif isinstance(error, QueueFull):
            assert arrived_now
            assert len(self.waiting) - 1 >= self.policy.queue_limit
        elif isinstance(error, TooManyRequests):
            mine = [t for t in self.waiting.values() if t.key == ticket.key and t.id != ticket.id]
            assert arrived_now
            assert len(mine) >= self.policy.queue_per_key
        else:
            assert isinstance(error, ShuttingDown), f"unexpected {error!r}"
            assert self.fleet.closing

    # --- oracles on the picture after a step ---

    def _after(self, event: Event, before: Fleet, actions: list) -> None:
        self._follow_phases(before)
        self._check_books()
        self._check_backoff(event, actions)
        if self.fleet.closing:
            assert not self.waiting
            return
        self._check_idle()
        self._check_budgets()
        self._check_bounds()
        self._check_free_slots()
        self._check_leavers(before, actions)
        self._check_order(event, before, actions)
        self._check_next_is_read()
        self._follow_blocked()

    def _follow_phases(self, before: Fleet) -> None:
        for number, engine in self.engines.items():
            now = self.fleet.models[engine.model].instance
            was = before.models[engine.model].instance
            assert now is not None
            assert now.id == number
            engine.for_room = now.for_room
            if now.phase is Phase.DRAINING:
                again = was is not None and was.phase is Phase.DRAINING and was.since != now.since
                if engine.draining_since is None or again:  # called back and sent away again in one step
                    engine.draining_since = self.now
            elif now.phase is Phase.READY:
                engine.draining_since = None
                if was is not None and was.phase is Phase.DRAINING:
                    engine.unload_asked = False
            left = was is not None and was.phase is Phase.READY and now.phase in (Phase.DRAINING, Phase.STOPPING)
            if left:
                self._check_reason_to_leave(engine, now.for_room, before)
            nobody = (
                engine.ready_at is None
                and not engine.asked
                and all(t.model != engine.model for t in self.waiting.values())
            )
            engine.unwanted_since = (engine.unwanted_since or self.now) if nobody else None

    def _check_reason_to_leave(self, engine: Engine, for_room: bool, before: Fleet) -> None:
        spec = self.specs[engine.model]
        assert engine.ready_at is not None
        if for_room:
            assert not spec.pinned, "a pinned model had to make room"
            assert self.now >= engine.ready_at + spec.min_resident, "min_resident was not kept"
            self._check_turn_is_over(engine)
        elif not engine.unload_asked and not self._overgrown(engine, before) and not self.outdated(engine):
            assert spec.ttl is not None, "left without reason"
            assert not spec.pinned, "left without reason"
            leaving = self.fleet.models[engine.model].instance.leaving  # type: ignore[union-attr]
            assert self.now >= engine.used + spec.ttl, f"left before its ttl ({leaving}): {engine} in {self.fleet}"
            assert not engine.answers, "left for idleness with answers under way"

    def _check_books(self) -> None:
        fleet = self.fleet
        queues = {t.id: t for m in fleet.models.values() for t in m.queue}
        assert queues == self.waiting
        assert fleet.queued == {t.id: t.model for t in self.waiting.values()}
        assert {number: granted.instance for number, granted in fleet.granted.items()} == self.answering
        assert {t for t, i in self.answering.items() if i in self.engines} == {
            t for e in self.engines.values() for t in e.answers
        }
        assert set(fleet.instances) == set(fleet.use) == set(self.engines)
        for number, engine in self.engines.items():
            instance = fleet.models[engine.model].instance
            assert instance is not None
            assert instance.id == number
            assert fleet.instances[number] == engine.model
            assert fleet.use[number].active == len(engine.answers)
            assert dict(instance.claim) == engine.claim
            assert instance.stop_sent == engine.stopped == (instance.phase is Phase.STOPPING)
            assert (instance.phase is Phase.STARTING) == (engine.ready_at is None and not engine.stopped)
            if engine.ready_at is not None:
                assert instance.slots == engine.slots

    def _check_backoff(self, event: Event, actions: list) -> None:
        """From the third failure on, the answer comes at once; before and after, nobody is refused for it."""
        if not isinstance(event, Arrived) or self.fleet.closing or event.ticket.model not in self.configured:
            return
        model = event.ticket.model
        here = any(e.model == model for e in self.engines.values())
        refused = any(
            isinstance(a, Refuse) and a.ticket.id == event.ticket.id and type(a.error) is LoadFailed for a in actions
        )
        assert refused == (not here and self.backoff.get(model, 0.0) > self.now)

    def _check_idle(self) -> None:
        """Nobody stays beyond its ttl, and no load goes on for nobody."""
        for engine in self.engines.values():
            spec = self.specs[engine.model]
            instance = self.fleet.models[engine.model].instance
            assert instance is not None
            if instance.phase is Phase.READY and spec.ttl is not None and not spec.pinned and not engine.answers:
                assert engine.used + spec.ttl > self.now, f"{engine.model} is idle beyond its ttl"
            if instance.phase is Phase.STARTING and engine.unwanted_since is not None:
                assert engine.unwanted_since + self.policy.unwanted_grace > self.now, "a load goes on for nobody"
            if instance.phase is Phase.DRAINING:
                assert engine.answers, "drained and not stopped"
                limit = self.policy.drain_timeout
                assert limit is None or engine.draining_since is None or engine.draining_since + limit > self.now

    def _check_bounds(self) -> None:
        assert len(self.waiting) <= self.policy.queue_limit
        for ticket in self.waiting.values():
            mine = sum(1 for t in self.waiting.values() if t.key == ticket.key)
            assert mine <= self.policy.queue_per_key
            engine = next((e for e in self.engines.values() if e.model == ticket.model), None)
            loading = engine is not None and engine.ready_at is None and not engine.stopped
            start = max(ticket.arrived, self.idle_since.get(ticket.model, 0.0))
            assert loading or start + self.policy.queue_timeout > self.now, "waits beyond queue.timeout"

    def _check_free_slots(self) -> None:
        """Nobody waits beside a free slot of its model; tasks neither, nor for nothing."""
        for ticket in self.waiting.values():
            state = self.fleet.models[ticket.model]
            if state.instance is not None:
                free = self.fleet.use[state.instance.id].active < state.instance.slots
                assert not (state.instance.phase is Phase.READY and free), f"{ticket} waits beside a free slot"
            elif (
                ticket.task
                and self._wanted_since(ticket.model) is None
                and self.now >= ticket.arrived + self.policy.task_hold
            ):
                hosts = self._hosts(ticket)
                assert hosts or self.policy.tasks is TaskRule.QUEUE, f"{ticket} waits for nothing"
                for host in hosts:
                    queued = any(t.model == host.model for t in self.waiting.values())
                    assert queued or len(host.answers) >= host.slots, f"task {ticket} waits beside {host}"

    def _hosts(self, ticket: Ticket) -> list[Engine]:
        if self.policy.tasks is not TaskRule.RESIDENT or self.specs[ticket.model].kind is not Kind.CHAT:
            return []
        ready = [e for e in self.engines.values() if self.fleet.models[e.model].instance.phase is Phase.READY]  # type: ignore[union-attr]
        return [
            e
            for e in ready
            if (ticket.allowed is None or e.model in ticket.allowed)
            and self.specs[e.model].kind is Kind.CHAT
            and not self.specs[e.model].remote
        ]

    def _overgrown(self, engine: Engine, before: Fleet) -> bool:
        """Whether engines held more than a device may give, on one that this one was on, beside others."""
        were = {i.id for i in before.live() if i.phase in PRESENT}
        there = [e for number, e in self.engines.items() if number in were]
        for device, size in engine.claim.items():
            held = [e.claim.get(device, 0) for e in there]
            if size and sum(held) > self.fleet.devices[device].total and sum(map(bool, held)) > 1:
                return True
        return False

    def _present(self, engine: Engine) -> bool:
        instance = self.fleet.models[engine.model].instance
        return instance is not None and instance.phase in PRESENT

    def _check_budgets(self) -> None:
        """More than the budget is held only where nobody may leave, or only by one."""
        for device in self.fleet.devices.values():
            there = [e for e in self.engines.values() if self._present(e) and e.claim.get(device.id)]
            may = [e for e in there if e.ready_at is not None and not self.specs[e.model].pinned]
            excess = sum(e.claim[device.id] for e in there) - device.total
            alone = len(there) < 2
            assert excess <= 0 or alone or sum(e.claim[device.id] for e in may) < excess, f"too much on {device.id}"

    def _check_turn_is_over(self, engine: Engine) -> None:
        """Who is told to leave had its quantum, or no work and nothing worth waiting for (spec D4)."""
        beneficiary = self.fleet.models[engine.model].instance.leaving.removeprefix("room for ")  # type: ignore[union-attr]
        want = self._want(beneficiary)
        if want is None:  # it has started in this very step
            return
        until = self._keeps_until(engine, *want)
        assert until <= self.now, f"{engine.model} left for {beneficiary} at {self.now}, before {until}"

    def _want(self, model: str) -> tuple[float, float, int, bool] | None:
        """Since when it is wanted, when it is due, the highest priority, and whether an operator asked."""
        since = self._wanted_since(model)
        if since is None:
            return None
        asked = self.fleet.models[model].asked is not None
        if self.policy.max_wait != 0 and not asked:
            since = max(since, self.made_room.get(model, since))
        if self.policy.max_wait is not None:
            wait = self.policy.max_wait
        else:
            wait = max(60.0, min(5 * self.loads[model], self.policy.queue_timeout / 2))
        priorities = [t.priority for t in self.waiting.values() if t.model == model and not t.task]
        return since, since if asked else since + wait, max(priorities, default=0), asked

    def _keeps_until(self, engine: Engine, since: float, due: float, _priority: int, asked: bool) -> float:
        """Until when an engine keeps its place against who is wanted so."""
        own = self._wanted_since(engine.model)
        if self.policy.max_wait == 0:
            return math.inf if own is not None and own < since else -math.inf
        if asked:
            return -math.inf
        assert engine.ready_at is not None
        quantum = engine.ready_at + min(2 * self.loads[engine.model], self.policy.queue_timeout / 2)
        if own is not None or any(not self.asked_by[t].task for t in engine.answers):
            return max(quantum, due)
        if self.policy.linger is not None:
            return min(engine.used + self.policy.linger, due) if self.policy.linger else -math.inf
        waits = [-math.inf]
        for session in self.fleet.habits[engine.model].sessions.values():
            if session.ended is not None and len(session.gaps) >= 3:
                think = sorted(session.gaps)[min(len(session.gaps) - 1, int(len(session.gaps) * 0.8))]
                if think <= self.loads[engine.model] / 2:
                    waits.append(session.ended + think)
        return min(max(waits), quantum, due)

    def _wanted_since(self, model: str) -> float | None:
        times = [t.arrived for t in self.waiting.values() if t.model == model and not t.task]
        asked = self.fleet.models[model].asked if model in self.configured else None
        return min([*times, *([asked] if asked is not None else [])], default=None)

    def _candidates(self) -> list[tuple[tuple, str, dict[str, int]]]:
        """Models that wait for room and may ever get it, in the order of their turns."""
        found = []
        for place, (name, state) in enumerate(self.fleet.models.items()):
            want = self._want(name)
            if state.instance is None and want is not None and not self._held_up(name):
                found.append((self._rank(want), place, name, self.need(state.claim)))
        return [(rank, name, claim) for rank, _, name, claim in sorted(found)]

    def _rank(self, want: tuple[float, float, int, bool]) -> tuple:
        """Due ones by age, then the others by priority and age."""
        since, due, priority, _ = want
        return (0, since) if due <= self.now else (1, -priority, since)

    def _held_up(self, model: str) -> bool:
        """Whether it would not fit even if all of ours but the pinned ones left."""
        for device, size in self.need(self.fleet.models[model].claim).items():
            staying = sum(
                i.claim.get(device, 0) for i in self.fleet.live() if self.specs[i.model].pinned and i.phase in PRESENT
            )
            if size > self.usable(device) - staying:
                return True
        return False

    def _check_leavers(self, before: Fleet, actions: list) -> None:
        """Who leaves for room: sufficient for its beneficiary, each one necessary, none for a younger one or a task."""
        live = self.fleet.live()
        leaving = {i.id: i for i in live if i.for_room and i.phase is Phase.DRAINING}
        stopping_before = {i.id for i in before.live() if i.phase is Phase.STOPPING}
        stopped = {i.id: i for i in live if i.for_room and i.phase is Phase.STOPPING and i.id not in stopping_before}
        room = {d: self.usable(d) - self.held(d) for d in self.fleet.devices}
        coming = dict(room)
        for i in live:
            if i.phase not in PRESENT and i.id not in leaving:
                _add(coming, i.claim, +1)
        spare = {number: dict(coming) for number in stopped}
        for number, i in stopped.items():
            _add(spare[number], i.claim, -1)
        unneeded = set(stopped)
        for rank, name, claim in self._candidates():
            if _fits(claim, coming) and _fits(claim, room):
                beside = any(d in i.claim for i in live if i.phase is Phase.STARTING for d in claim)
                assert beside, f"{name} could be started"
                _add(room, claim, -1)
            group = [leaving.pop(n) for n in list(leaving) if leaving[n].leaving == f"room for {name}"]
            for instance in group:
                self._check_may_leave_for(instance.model, name, rank[-1])
                for pool in (coming, *spare.values()):
                    _add(pool, instance.claim, +1)
            if group:
                _check_group(group, name, claim, coming)
            elif not _fits(claim, coming):
                self._check_nobody_could_leave(name, claim, coming, leaving)
            for number, pool in spare.items():
                if not _fits(claim, pool):
                    unneeded.discard(number)
                if stopped[number].leaving == f"room for {name}":
                    self._check_may_leave_for(stopped[number].model, name, rank[-1])
                    assert number not in unneeded, f"{stopped[number].model} was stopped for {name} without need"
                _add(pool, claim, -1)
            _add(coming, claim, -1)
        assert not leaving, f"leave for nobody: {leaving}"
        # A place that comes free soon may be promised to the oldest in exchange for free room now: its user has started.
        names = {f"room for {name}" for _, name, _ in self._candidates()}
        names |= {f"room for {a.model}" for a in actions if isinstance(a, Start)}
        assert all(i.leaving in names for i in stopped.values()), f"stopped for nobody: {stopped}"

    def _check_may_leave_for(self, model: str, beneficiary: str, since: float) -> None:
        if self.policy.max_wait == 0:
            older = self._wanted_since(model)
            assert older is None or older >= since, f"{model} leaves for the younger {beneficiary}"

    def _check_nobody_could_leave(self, name: str, claim: dict, coming: dict, leaving: dict) -> None:
        most = dict(coming)
        want = self._want(name)
        assert want is not None
        for i in self.fleet.live():
            spec = self.specs[i.model]
            settled = self.now >= i.since + spec.min_resident
            over = i.phase is Phase.READY and self._keeps_until(self.engines[i.id], *want) <= self.now
            if (over and settled and not spec.pinned) or i.id in leaving:
                _add(most, i.claim, +1)
        assert not _fits(claim, most), f"{name} waits although others could leave for it"

    def _check_order(self, event: Event, before: Fleet, actions: list) -> None:
        """Room is promised to the oldest: whoever starts later leaves enough for it."""
        started = {a.model: a.claim for a in actions if isinstance(a, Start)}
        coming = {d: self.usable(d) - self.held(d) for d in self.fleet.devices}
        for i in self.fleet.live():
            if i.phase not in PRESENT:
                _add(coming, i.claim, +1)
        wants = {model: self._want_before(model, before, event) for model in started}
        for rank, name, claim in self._candidates():
            _add(coming, claim, -1)
            for model, theirs in started.items():
                want = wants[model]
                if want is None or self._rank(want) > rank:
                    short = [d for d in theirs if d in claim and coming[d] < 0]
                    assert not short, f"{model} ({want}) took the room of {name} ({rank}), which waits for longer"

    def _want_before(self, model: str, before: Fleet, event: Event) -> tuple[float, float, int, bool] | None:
        """How a model was wanted that has started in this step: what an operator asked for is forgotten by now."""
        want, asked = self._want(model), before.models[model].asked
        if self._comes_back(event, before) == model:
            asked = self.now
        asked_now = isinstance(event, Asked) and event.want is Want.LOAD and event.model == model
        if asked is None and (asked_now or self._asked_again(event, before) == model):
            asked = self.now
        if asked is None:
            return want
        priority = want[2] if want is not None else 0
        since = min(asked, want[0]) if want is not None else asked
        return since, since, priority, True

    def _follow_blocked(self) -> None:
        for name in self.configured:
            wants = self.fleet.models[name].instance is None and self._wanted_since(name) is not None
            if wants and self._held_up(name):
                self.blocked_since.setdefault(name, self.now)
                assert self.blocked_since[name] + self.policy.memory_wait > self.now, (
                    f"{name} waits on for others' memory"
                )
            else:
                self.blocked_since.pop(name, None)

    # --- the end ---

    def settle(self, busy: bool) -> None:
        """Everything goes well from here on; all who wait now are answered soon, though loaded models stay busy."""
        for device in list(self.fleet.devices):
            if self.fleet.devices[device].foreign:
                self.foreign(device, 0)
        old = {t.id for t in self.waiting.values() if not t.task}
        # At worst each is served alone: its place drained, stopped, loaded, and kept for min_resident (5 rounds).
        for _ in range(20 * (len(self.specs) + len(old))):
            if not old & set(self.waiting):
                break
            self._all_goes_well(busy)
        assert not old & set(self.waiting), (
            f"starved: {[self.waiting[t] for t in old & set(self.waiting)]} in {self.fleet}"
        )
        if not busy:
            self._tasks_end()
        self.happens(ClosingTime())

    def _tasks_end(self) -> None:
        """A task may wait for room that nobody makes for it (`tasks: queue`), but not beyond `queue.timeout`."""
        for _ in range(20 * (len(self.specs) + len(self.waiting))):
            if not self.waiting:
                return
            self._all_goes_well(busy=False)
            self.passes(10_000.0)
        assert not self.waiting, f"waits for ever: {self.waiting} in {self.fleet}"

    def _all_goes_well(self, busy: bool) -> None:
        for number in list(self.engines):
            engine = self.engines.get(number)
            if engine is None:
                continue
            if engine.stopped:
                self.exits(number, expected=True)
            elif engine.ready_at is None:
                self.becomes_ready(number, 2)
            elif engine.answers:
                self.departs(min(engine.answers))
                if busy and len([t for t in self.waiting.values() if t.key == "busy"]) < 5:
                    self.arrives(engine.model, key="busy", priority=-9)
        longest = max([spec.min_resident for spec in self.specs.values()])
        wait = max((want[1] - want[0] for name in self.specs if (want := self._want(name)) is not None), default=0.0)
        until = self.now + max(1.0, longest / 5, min(wait, 1000.0) / 5)  # without `max_wait` it is endless
        while until - self.now > 1e-6:  # rounding may keep it from ever being the same
            self.passes(until - self.now)


def _check_group(group: list[Instance], name: str, claim: Claim, coming: dict[str, int]) -> None:
    """Those who leave for one model are enough for it, and each of them is needed."""
    assert _fits(claim, coming), f"{group} leave for {name} in vain"
    for instance in group:
        without = dict(coming)
        _add(without, instance.claim, -1)
        assert not _fits(claim, without), f"{instance.model} leaves for {name} without need"


def _fits(claim: Claim, room: dict[str, int]) -> bool:
    return all(size <= room.get(device, 0) for device, size in claim.items())


def _add(room: dict[str, int], claim: Claim, sign: int) -> None:
    for device, size in claim.items():
        room[device] = room.get(device, 0) + sign * size


def _plain(actions: list) -> list[str]:
    """Actions as text: errors are equal when they say the same."""
    return [repr(a) for a in actions]
