import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.cli.board import Picture, board, happening, ordered, plain
from roundhouse.cli.rates import Rate

GIB = 1 << 30


def model(state="unloaded", **more):
    known = {
        "state": state,
        "engine": "llamacpp",
        "device": {},
        "since": None,
        "active": 0,
        "waiting": 0,
        "error": None,
    }
    return known | more


MODELS = {
    "small": model(),
    "big": model("ready", device={"ram": 3 * GIB}, active=1, slots=4, since=60.0),
    "next": model(
        "loading",
        device={"ram": 2 * GIB},
        since=12.0,
        expected_s=30.0,
        progress={"fraction": 0.5, "stage": "reading weights"},
        waiting=2,
    ),
    "bad": model("failed", error="no such file\nat all"),
}


def state(models=MODELS, **more):
    devices = {"ram": {"total": 16 * GIB, "used": 9 * GIB, "ours": 5 * GIB, "foreign": 4 * GIB}}
    told = {"version": "1", "status": "healthy", "uptime_s": 7300.0, "queue": 2, "models": models, "devices": devices}
    return told | more


def entry(name="next", waited=3.0, why=("1 request ahead",), task=False):
    return {"model": name, "waited_s": waited, "why": list(why), "task": task, "priority": 0}


PICTURE = Picture(
    "http://x",
    state(),
    [entry(), entry("small", 70.0, ("big finishes 1 answer first", "then"), task=True)],
    Rate(2.5, 45.25),
    ("12:00:00 big: ready after 3.2 s",),
)


def texts(lines):
    return [line.plain for line in lines]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_all_that_is_known_has_its_place(width, height):
    lines = texts(board(PICTURE, width, height))
    whole = "\n".join(lines)
    assert lines[0] == "Roundhouse 1 healthy · up 2 h · 2 waiting · 2.5 req/s · 45.2 tok/s"
    assert "5.0 GiB of 16.0 GiB · others 4.0 GiB" in lines[1]
    bar = "██████······" if width == 200 else "███···"
    assert f"{bar} 50 % · about 18 s left · " in whole
    assert "1/4" in whole
    assert "no such file at all" in whole
    assert "     3 s  next: 1 request ahead" in lines
    assert "    70 s  small (task): big finishes 1 answer first; then" in lines
    assert "12:00:00 big: ready after 3.2 s" in lines
    assert lines[-1].startswith("q quit")


def test_memory_is_drawn_in_proportion():
    bar = texts(board(PICTURE, 120, 24))[1]
    ours, others, free = (bar.count(sign) for sign in "█▒·")
    assert ours == pytest.approx((ours + others + free) * 5 / 16, abs=1)
    assert others == pytest.approx((ours + others + free) * 4 / 16, abs=1)


def test_what_others_have_outside_a_budget_is_not_drawn_into_it():
    devices = {"ram": {"total": 4 * GIB, "used": 9 * GIB, "ours": 1 * GIB, "foreign": 8 * GIB}}
    bar = texts(board(Picture("u", state(devices=devices)), 120, 24))[1]
    assert bar.count("▒") == 0
    assert bar.count("·") > 3 * bar.count("█") - 4
    assert "1.0 GiB of 4.0 GiB · others 8.0 GiB" in bar


def test_what_is_going_on_stands_above_what_is_not():
    assert ordered(state()) == ["next", "big", "bad", "small"]


def test_a_load_of_unknown_length_tells_how_long_it_takes_already():
    loading = model("loading", since=12.0, expected_s=None)
    assert "for 12 s · starting" in "\n".join(texts(board(Picture("u", state({"m": loading})), 100, 24)))
    late = model("loading", since=42.0, expected_s=30.0)
    assert "any moment now" in "\n".join(texts(board(Picture("u", state({"m": late})), 100, 24)))


names = st.text(st.characters(), min_size=1, max_size=60)
models = st.dictionaries(
    names,
    st.builds(
        model,
        st.sampled_from(["loading", "draining", "stopping", "ready", "failed", "unloaded", "odd"]),
        waiting=st.integers(0, 3),
        error=st.none() | names,
        progress=st.none() | st.fixed_dictionaries({"fraction": st.none() | st.floats(0, 1), "stage": names}),
        since=st.none() | st.floats(0, 1e6),
        expected_s=st.none() | st.floats(1, 1e4),
    ),
    max_size=40,
)


@given(
    models,
    st.lists(names.map(entry), max_size=30),
    st.lists(names, max_size=30),
    st.integers(1, 220),
    st.integers(1, 60),
    st.data(),
)
def test_it_always_fits_the_screen(models, queue, events, width, height, data):
    chosen = data.draw(st.none() | st.sampled_from(list(models))) if models else None
    lines = board(Picture("u", state(models), queue, None, events), width, height, chosen)
    assert len(lines) == height
    for line in lines:
        assert line.cell_len <= max(width, 40)
        assert "\n" not in line.plain
        assert "\x1b" not in line.plain


@pytest.mark.parametrize("height", [8, 12, 24])
@pytest.mark.parametrize("chosen", ["m00", "m20", "m39"])
def test_the_chosen_model_is_always_in_sight(chosen, height):
    many = {f"m{number:02}": model() for number in range(40)}
    lines = texts(board(Picture("u", state(many), [entry("m00")] * 30), 80, height, chosen))
    assert any(line.startswith(f"▸ {chosen}") for line in lines)
    assert any("more" in line for line in lines)


def test_before_the_first_answer_and_without_one():
    assert texts(board(Picture("http://x"), 80, 24))[0] == "asking http://x"
    assert texts(board(Picture("http://x", trouble="Nothing answers"), 80, 24))[0] == "Nothing answers"
    stale = board(Picture("http://x", state(), trouble="Nothing answers"), 80, 24)
    assert texts(stale)[0] == "Nothing answers"
    assert any("big" in line for line in texts(stale))


def test_for_a_pipe_everything_is_there():
    many = {f"m{number:02}": model() for number in range(100)}
    lines = texts(plain(Picture("u", state(many), [entry()] * 50)))
    assert sum(line.startswith("  m") for line in lines) == 100
    assert sum("1 request ahead" in line for line in lines) == 50


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("loading", {"model": "m"}, "m: loading"),
        ("ready", {"model": "m", "seconds": 3.21}, "m: ready after 3.2 s"),
        ("unloading", {"model": "m", "why": "room for n"}, "m: unloading, room for n"),
        ("exited", {"model": "m", "expected": False, "reason": "it crashed"}, "m: its engine ended: it crashed"),
        ("exited", {"model": "m", "expected": True}, ""),
        ("refused", {"model": "m", "error": "full"}, "m: a request was refused: full"),
        ("switch", {"model": "m", "verdict": "as fast as the disk"}, "m: as fast as the disk"),
        ("progress", {"model": "m"}, ""),
        ("snapshot", {}, ""),
    ],
)
def test_events_in_words(kind, data, said):
    assert happening(kind, data) == said
