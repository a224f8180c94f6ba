"""Hypothesis plays a whole box in virtual time; the oracles are in `tests.core.box`, one per rule."""

from __future__ import annotations

import math
import os
from dataclasses import replace

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from roundhouse.core.model import Asked, Device, Found, Kind, Measured, ModelSpec, Policy, ReadAhead, TaskRule, Want
from tests.core.box import Box

PICK = st.integers(0, 11)
SECONDS = st.sampled_from([0.1, 0.3, 1.7, 4.9, 10.1, 31.3, 333.3])
FEW = st.sampled_from([None, None, None, 1, 2])


@st.composite
def claims(draw, devices: list[str], seat: bool):
    first = draw(st.sampled_from(devices))
    claim = {first: draw(st.sampled_from([2, 3, 4, 5, 6, 8, 10]))}
    if len(devices) > 1 and draw(st.integers(0, 4)) == 0:
        claim[devices[1 - devices.index(first)]] = draw(st.sampled_from([1, 3, 5]))
    if seat and draw(st.integers(0, 2)) == 0:
        claim["unit:tabby"] = 1
    return claim


@st.composite
def boxes(draw):
    names = ["gpu0", "gpu1"][: draw(st.integers(1, 2))]
    seat = draw(st.booleans())
    devices = [Device(n, 10, draw(st.sampled_from([0, 10, 12]))) for n in names]
    if seat:
        devices.append(Device("unit:tabby", 1))
    specs = [
        ModelSpec(
            f"m{number}",
            kind=draw(st.sampled_from([Kind.CHAT, Kind.CHAT, Kind.CHAT, Kind.EMBEDDING])),
            claim=draw(claims(names, seat)),
            slots=draw(st.sampled_from([None, 1, 2])),
            pinned=draw(st.integers(0, 7)) == 0,
            ttl=draw(st.sampled_from([None, None, 7.7, 60.3])),
            min_resident=draw(st.sampled_from([0.0, 0.0, 3.1, 20.7])),
            expected=draw(st.sampled_from([None, 2.3, 17.9])),
            local=draw(st.integers(0, 3)) > 0,
        )
        for number in range(draw(st.integers(2, 5)))
    ]
    policy = Policy(
        queue_limit=draw(st.sampled_from([4, 50])),
        queue_per_key=draw(st.sampled_from([2, 50])),
        queue_timeout=draw(st.sampled_from([600.0, 600.0, 15.9])),
        tasks=draw(st.sampled_from(list(TaskRule))),
        task_model=draw(st.sampled_from([None, "m0"])),
        drain_timeout=draw(st.sampled_from([None, None, None, 6.3])),
        max_wait=draw(st.sampled_from([None, 0.0, 5.3, 31.7, math.inf])),
        task_hold=draw(st.sampled_from([0.0, 0.5])),
        linger=draw(st.sampled_from([None, None, 0.0, 3.3])),
        prefetch=draw(st.sampled_from([ReadAhead.OFF, ReadAhead.NEXT, ReadAhead.LEARNED, ReadAhead.LEARNED])),
    )
    return Box(specs, devices, policy)


class BoxMachine(RuleBasedStateMachine):
    box: Box

    @initialize(box=boxes(), found=st.lists(st.booleans(), max_size=3))
    def opens(self, box, found):
        self.box = box
        free = {name: device.total for name, device in box.fleet.devices.items()}
        for number, ready in enumerate(found):
            model = f"m{number}"
            if model not in box.specs:
                return
            claim = box.specs[model].claim
            if all(size <= free[device] for device, size in claim.items()):
                for device, size in claim.items():
                    free[device] -= size
                box.happens(Found(number + 1, model, 100, 2, ready))

    def model(self, pick: int) -> str:
        return f"m{pick % len(self.box.specs)}"

    def engine(self, pick: int, *, loading: bool = False, ready: bool = False, stopped: bool = False) -> int:
        """The number of one of the engines in these states; 0 = there is none (they count from 1)."""
        found = [
            number
            for number, e in self.box.engines.items()
            if (stopped if e.stopped else loading if e.ready_at is None else ready)
        ]
        return found[pick % len(found)] if found else 0

    @rule(pick=PICK, key=st.sampled_from(["", "ann", "bob"]), priority=st.sampled_from([0, 0, 0, 5]))
    def a_request_comes(self, pick, key, priority):
        self.box.arrives(self.model(pick), key, priority, session=key)

    @rule(pick=PICK, among=st.sampled_from([None, None, frozenset({"m0", "m1"})]))
    def a_task_comes(self, pick, among):
        self.box.arrives(self.model(pick), task=True, allowed=among)

    @precondition(lambda self: self.box.waiting)
    @rule(pick=PICK)
    def a_client_leaves(self, pick):
        self.box.departs(sorted(self.box.waiting)[pick % len(self.box.waiting)])

    @rule(pick=PICK)
    def an_operator_cancels(self, pick):
        """Whoever it is: one that waits, that is answered, or that has ended."""
        self.box.cancels(pick % (self.box.tickets + 1))

    @precondition(lambda self: self.box.answering)
    @rule(pick=PICK)
    def an_answer_ends(self, pick):
        self.box.departs(sorted(self.box.answering)[pick % len(self.box.answering)])

    @precondition(lambda self: self.engine(0, loading=True))
    @rule(pick=PICK, slots=FEW, seconds=st.sampled_from([0.9, 1.0, 6.7, 20.3]))
    def a_load_succeeds(self, pick, slots, seconds):
        self.box.becomes_ready(self.engine(pick, loading=True), slots, seconds)

    @precondition(lambda self: self.engine(0, loading=True))
    @rule(pick=PICK, short=st.booleans())
    def a_load_fails(self, pick, short):
        self.box.exits(self.engine(pick, loading=True), short=short)

    @precondition(lambda self: self.engine(0, ready=True))
    @rule(pick=PICK)
    def an_engine_crashes(self, pick):
        self.box.exits(self.engine(pick, ready=True))

    @precondition(lambda self: self.engine(0, stopped=True))
    @rule(pick=PICK, expected=st.booleans())
    def an_engine_is_gone(self, pick, expected):
        self.box.exits(self.engine(pick, stopped=True), expected=expected)

    @precondition(lambda self: any(e.stopped and e.ready_at is None for e in self.box.engines.values()))
    @rule()
    def a_probe_passes_too_late(self):
        late = [n for n, e in self.box.engines.items() if e.stopped and e.ready_at is None]
        self.box.becomes_ready(late[0], 2)

    @rule(pick=st.integers(0, 1), size=st.sampled_from([0, 0, 1, 3, 6, 12]))
    def others_use_memory(self, pick, size):
        devices = [d for d in self.box.fleet.devices if d.startswith("gpu")]
        self.box.foreign(devices[pick % len(devices)], size)

    @precondition(lambda self: self.engine(0, ready=True, loading=True))
    @rule(pick=PICK, change=st.sampled_from([-1, 1]))
    def an_engine_is_measured(self, pick, change):
        number = self.engine(pick, ready=True, loading=True)
        claim = {d: max(1, s + change) if d.startswith("gpu") else s for d, s in self.box.engines[number].claim.items()}
        self.box.happens(Measured(number, claim, claim))

    @rule(pick=PICK, want=st.sampled_from([Want.LOAD, Want.UNLOAD]))
    def an_operator_asks(self, pick, want):
        self.box.happens(Asked(self.model(pick), want))

    @rule(
        pick=PICK,
        change=st.sampled_from(
            ["settings", "settings", "back", "gone", "here", "claim", "pinned", "ttl", "policy", ""]
        ),
        max_wait=st.sampled_from([None, 0.0, 5.3]),
    )
    def another_configuration_holds(self, pick, change, max_wait):
        """One thing of it is another; `back` undoes changes of settings, `here` brings back what was taken out."""
        box, model = self.box, self.model(pick)
        specs = {name: spec for name, spec in box.specs.items() if name in box.configured}
        spec, policy = box.specs[model], box.policy
        if change == "gone" and len(specs) > 1:
            specs.pop(model, None)
        elif change == "here":
            specs[model] = spec
        elif change == "back":
            specs = {name: replace(spec, settings="") for name, spec in specs.items()}
        elif change == "policy" and policy.max_wait not in (None, math.inf):
            policy = replace(policy, max_wait=max_wait if max_wait is not None else policy.max_wait)
        elif model in specs and change in {"settings", "claim", "pinned", "ttl"}:
            changes = {
                "settings": {"settings": f"s{pick % 3}"},
                "claim": {"claim": {device: 1 + size % 7 for device, size in spec.claim.items()}},
                "pinned": {"pinned": not spec.pinned},
                "ttl": {"ttl": 7.7 if spec.ttl is None else None},
            }
            specs[model] = replace(spec, **changes[change])
        box.reloads(list(specs.values()), policy)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds):
        self.box.passes(seconds)

    @rule()
    def time_passes_to_the_next_wakeup(self):
        self.box.passes(10_000.0)

    @rule(seconds=SECONDS)
    def the_loop_was_held_up(self, seconds):
        self.box.passes(seconds, late=True)

    def teardown(self):
        if hasattr(self, "box"):
            # Without any `max_wait`, a busy model may keep its place for ever.
            self.box.settle(busy=self.box.tickets % 2 == 0 and self.box.policy.max_wait != math.inf)


PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "")
EXAMPLES, STEPS = {"soak": (3000, 100), "mutants": (80, 50)}.get(PROFILE, (150, 60))
BoxMachine.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    phases=[Phase.generate] if PROFILE == "mutants" else list(Phase),
    database=None,
    derandomize=PROFILE != "soak",
)
TestBox = BoxMachine.TestCase
