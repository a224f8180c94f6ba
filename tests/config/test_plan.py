"""What another configuration would change, and what each change takes (spec E4)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.config.load import parse
from roundhouse.config.plan import LATER, Change, Effect, Setting, compare, in_force

TOP = "state_dir: /tmp/state\n"
MODELS = """\
models:
  one: {command: "serve --port ${PORT}", memory: 1GiB, aliases: [uno]}
  two: {command: "serve --port ${PORT}", memory: 1GiB, api_key: secret-one}
"""
KEYS = "keys: [{name: me, hash: 'sha256:%s', admin: true}]\n" % ("a" * 64)  # braces


def read(text: str):
    return parse(text, Path("/etc/roundhouse.yaml"), {"HOME": "/home/me"})


def changes(old: str, new: str, **more) -> list[tuple]:
    return [(c.what, c.name, c.change, c.effect) for c in compare(read(old), read(new), **more)]


def test_the_same_in_other_words_is_no_change():
    other = MODELS.replace("1GiB", "1024MiB").replace("models:", "# a comment\nmodels:")
    assert compare(read(TOP + MODELS), read(other + TOP + "scheduling: {linger: auto}\n")) == ()


def test_models_that_come_and_go():
    new = MODELS.replace("two:", "three:")
    assert changes(TOP + MODELS, TOP + new, loaded={"two"}) == [
        ("model", "two", "removed", Effect.STOP),
        ("model", "three", "added", Effect.AT_ONCE),
    ]
    assert changes(TOP + MODELS, TOP + new)[0] == ("model", "two", "removed", Effect.AT_ONCE)


def test_what_a_changed_model_takes():
    new = MODELS.replace("aliases: [uno]", "context: 4096, aliases: [uno, eins]")
    (change,) = compare(read(MODELS), read(new), outdated={"one"}, loaded={"one"})
    assert change.effect is Effect.RESTART
    assert change.settings == (Setting("context", None, 4096), Setting("aliases.eins", None, {}))
    assert changes(MODELS, new, outdated={"one"}) == [("model", "one", "changed", Effect.NEXT_START)]
    assert changes(MODELS, new) == [("model", "one", "changed", Effect.AT_ONCE)]


def test_a_model_whose_files_alone_have_changed():
    (change,) = compare(read(MODELS), read(MODELS), outdated={"one"}, loaded={"one"})
    assert (change.effect, change.settings[0].name) == (Effect.RESTART, "files")


def test_f4_secrets_are_not_told():
    (change,) = compare(read(MODELS), read(MODELS.replace("secret-one", "secret-two")))
    assert change.settings == (Setting("api_key", "[hidden]", "[hidden]"),)
    (key,) = compare(read(KEYS), read(KEYS.replace("a" * 64, "b" * 64)))
    assert key == Change("key", "me", "changed", Effect.AT_ONCE, (Setting("hash", "[hidden]", "[hidden]"),))


def test_keys_hold_at_once():
    more = KEYS.replace("]", ", {name: you, hash: 'sha256:%s'}]" % ("c" * 64))
    assert changes(KEYS, more) == [("key", "you", "added", Effect.AT_ONCE)]
    assert changes(more, KEYS) == [("key", "you", "removed", Effect.AT_ONCE)]
    (change,) = compare(read(KEYS), read(KEYS.replace("admin: true", "admin: true, priority: 3")))
    assert change.settings == (Setting("priority", 0, 3),)


@pytest.mark.parametrize(
    ("line", "name", "effect"),
    [
        ("status: {every: 9s}", "status.every", Effect.AT_ONCE),
        ("devices: {ram: 4GiB}", "devices.ram", Effect.AT_ONCE),
        ("scheduling: {max_wait: 9s}", "scheduling.max_wait", Effect.AT_ONCE),
        ("reload: {watch: false}", "reload.watch", Effect.AT_ONCE),
        ("scheduling: {orphan_grace: 9s}", "scheduling.orphan_grace", Effect.LATER),
        ("shutdown: {drain: 9s}", "shutdown.drain", Effect.LATER),
        ("limits: {body: 9MiB}", "limits.body", Effect.LATER),
        ("listen: 127.0.0.1:9000", "listen", Effect.LATER),
    ],
)
def test_settings_of_all(line, name, effect):
    (change,) = compare(read(TOP), read(TOP + line))
    assert (change.name, change.effect) == (name, effect)
    assert (compare(read(TOP), in_force(read(TOP), read(TOP + line))) == ()) is (effect is Effect.LATER)


def test_a_default_shows_in_the_models_it_is_for():
    found = compare(read(MODELS), read(MODELS + "defaults: {ttl: 60s}"))
    assert {c.name: c.settings for c in found} == {name: (Setting("ttl", "auto", 60.0),) for name in ("one", "two")}


LINES = ["listen: 127.0.0.1:9000", "performance: off", "limits: {body: 9MiB}", "shutdown: {drain: 9s, engines: leave}",
         "scheduling: {linger: 3s, orphan_grace: 9s}", "status: {every: 9s}", "captures: {store: errors}"]  # fmt: skip


@given(st.sets(st.sampled_from(LINES)), st.sets(st.sampled_from(LINES)))
def test_what_holds_is_the_file_but_for_what_needs_a_restart(before, after):
    """Oracle: after an apply, the rest of the comparison with the file is exactly what needs a restart."""
    running, new = read(TOP + "\n".join(sorted(before))), read(TOP + "\n".join(sorted(after)))
    holds = in_force(running, new)
    left = {change.name for change in compare(holds, new)}
    assert left == {c.name for c in compare(running, new) if c.effect is Effect.LATER}
    assert all(any(name == later or name.startswith(f"{later}.") for later in LATER) for name in left)
    assert in_force(holds, new) == holds
