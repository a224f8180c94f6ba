import asyncio
import math
import sqlite3
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from roundhouse.observe.store import MIGRATIONS, Load, Measurement, Request, Retention, Store

NOW = 1_800_000_000.0


@pytest.fixture
async def store(tmp_path):
    async with Store(tmp_path / "roundhouse.db", clock=lambda: NOW) as store:
        yield store


def load(seconds, model="alpha", fingerprint="s1", *, ok=True):
    return Load(model, fingerprint, NOW, seconds, ok, "" if ok else "out of memory")


def request(number, model="alpha", at=NOW):
    return Request(f"r{number}", at, model, "me", "", 200, 0.1, None, 0.2, 1.5, 10, 20)


async def test_c5_nothing_is_expected_of_a_model_that_never_loaded(store):
    store.record_load(load(5.0, ok=False))
    assert await store.expected_load("alpha", "s1") is None


async def test_c5_expected_load_is_learned_from_good_loads_with_these_settings(store):
    for seconds in (1.0, 2.0, 3.0, 4.0):
        store.record_load(load(seconds))
    store.record_load(load(99.0, ok=False))
    store.record_load(load(50.0, fingerprint="s2"))
    store.record_load(load(60.0, model="beta"))
    assert await store.expected_load("alpha", "s1") == 3.0
    assert await store.expected_all() == {("alpha", "s1"): 3.0, ("alpha", "s2"): 50.0, ("beta", "s1"): 60.0}


async def test_c5_old_loads_are_forgotten_for_the_expectation(store):
    for seconds in [100.0] * 20 + [1.0] * 8:
        store.record_load(load(seconds))
    assert await store.expected_load("alpha", "s1") == 1.0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=20))
def test_c5_three_of_four_of_the_last_eight_loads_did_not_take_longer(tmp_path_factory, seconds):
    async def run():
        async with Store(tmp_path_factory.mktemp("store") / "roundhouse.db") as store:
            for each in seconds:
                store.record_load(load(each))
            return await store.expected_load("alpha", "s1")

    expected, last = asyncio.run(run()), seconds[-8:]
    assert expected in last
    assert expected >= statistics.median_low(last)
    assert sum(each <= expected for each in last) >= math.ceil(0.75 * len(last))
    assert sum(each < expected for each in last) < math.ceil(0.75 * len(last))


async def test_d1_peaks_are_the_most_that_each_load_held_per_device_newest_first(store):
    for size, at in ((5, 1.0), (9, 2.0), (7, 3.0)):
        store.record_measurement(Measurement("alpha", "s1", "gpu0", size, "pss", at, 1.0))
    store.record_measurement(Measurement("alpha", "s1", "ram", 3, "pss", 2.0, 1.0))
    store.record_measurement(Measurement("alpha", "s1", "gpu0", 4, "pss", 9.0, 8.0))
    store.record_measurement(Measurement("alpha", "s2", "gpu0", 100, "pss", NOW, NOW))
    assert await store.peaks("alpha", "s1") == {"gpu0": [4, 9], "ram": [3]}
    assert await store.peaks("alpha", "other") == {}
    assert await store.peaks_all() == {("alpha", "s1"): {"gpu0": [4, 9], "ram": [3]}, ("alpha", "s2"): {"gpu0": [100]}}


async def test_d1_peaks_of_old_loads_are_not_looked_at(store):
    for load in range(20):
        store.record_measurement(Measurement("alpha", "s1", "gpu0", 100 - load, "pss", NOW, float(load)))
    assert await store.peaks("alpha", "s1") == {"gpu0": [81, 82, 83, 84, 85, 86, 87, 88]}


async def test_g5_measurements_from_before_loads_were_told_apart_are_one_load(tmp_path):
    with sqlite3.connect(tmp_path / "roundhouse.db") as old:
        for statement in MIGRATIONS[0]:
            old.execute(statement)
        rows = [("a", "gpu0", 5), ("a", "gpu0", 9), ("a", "ram", 3), ("b", "gpu0", 7), ("a", "gpu0", 8)]
        insert = "INSERT INTO measurements (model, settings, device, bytes, source, at) VALUES (?, 's', ?, ?, 'x', 1)"
        old.executemany(insert, rows)
        old.execute("PRAGMA user_version = 1")
    old.close()
    async with Store(tmp_path / "roundhouse.db") as store:
        store.record_measurement(Measurement("a", "s", "gpu0", 4, "pss", NOW, NOW))
        assert await store.peaks_all() == {("a", "s"): {"gpu0": [4, 9], "ram": [3]}, ("b", "s"): {"gpu0": [7]}}


async def test_g5_requests_come_back_as_recorded_newest_first(store):
    requests = [request(1), request(2, "beta"), request(3)._replace(error="engine_error", load_s=2.5, task="title")]
    for each in requests:
        store.record_request(each)
    assert await store.recent_requests(10) == requests[::-1]
    assert await store.recent_requests(1) == [requests[2]]
    assert await store.recent_requests(10, model="beta") == [requests[1]]
    assert await store.recent_requests(-1) == []


async def test_g5_requests_are_found_by_what_they_are(store):
    requests = [request(n, at=NOW + n) for n in range(4)]
    requests[1] = requests[1]._replace(model="beta", key="ann")
    requests[2] = requests[2]._replace(status=503)
    requests[3] = requests[3]._replace(error="client_closed")
    for each in requests:
        store.record_request(each)

    async def found(model=None, key=None, ok=None, before=None, limit=10, waited=None):
        return [each.id for each in await store.find_requests(model, key, ok, before, limit, waited)]

    assert await found() == ["r3", "r2", "r1", "r0"]
    assert await found(model="beta") == await found(key="ann") == ["r1"]
    assert await found(ok=True) == ["r1", "r0"]
    assert await found(ok=False) == ["r3", "r2"]
    assert await found(before=NOW + 2) == ["r1", "r0"]
    assert await found(limit=2) == ["r3", "r2"]
    assert await found(model="beta", ok=False) == []


async def test_g5_requests_are_found_by_how_long_they_waited(store):
    quick, turn, load_, left = (request(n, at=NOW + n) for n in range(4))
    quick = quick._replace(queue_s=0.1, load_s=0.1, total_s=60.0, service_s=59.8)
    turn = turn._replace(queue_s=2.0, load_s=None, total_s=3.0, service_s=1.0)
    load_ = load_._replace(queue_s=0.5, load_s=0.5, total_s=3.0, service_s=2.0)
    left = left._replace(queue_s=0.0, load_s=0.0, total_s=5.0, service_s=None)  # before it came to an engine
    for each in (quick, turn, load_, left):
        store.record_request(each)
    found = await store.find_requests(None, None, None, None, 10, 1.0)
    assert found == [left, load_, turn]
    assert await store.find_requests(None, None, None, None, 10, 4.0) == [left]


async def test_g5_loads_keep_their_reason_and_stages(store):
    store.record_load(Load("alpha", "s1", NOW, 3.0, False, "x" * 5000, {f"stage{n}": 1.0 for n in range(99)}))
    (row,) = await store._database.run(lambda db: db.execute("SELECT reason, json(stages) FROM loads").fetchall())
    assert row[0] == "x" * 2000
    assert row[1].count("stage") == 32


async def test_g5_history_survives_a_restart(tmp_path):
    for _ in range(2):
        async with Store(tmp_path / "roundhouse.db") as store:
            store.record_load(load(3.0))
    async with Store(tmp_path / "roundhouse.db") as store:
        (row,) = await store._database.run(lambda db: db.execute("SELECT count(*) FROM loads").fetchall())
    assert row == (2,)


async def test_e6_requests_are_bounded_by_rows_and_by_age(tmp_path):
    keep = Retention(requests=10, requests_days=1)
    async with Store(tmp_path / "roundhouse.db", retention=keep, clock=lambda: NOW) as store:
        for n in range(30):
            store.record_request(request(n))
        for n in range(30, 34):
            store.record_request(request(n, at=NOW - 86_401))
    async with Store(tmp_path / "roundhouse.db", retention=keep, clock=lambda: NOW) as store:
        assert [each.id for each in await store.recent_requests(100)] == [f"r{n}" for n in range(29, 19, -1)]


async def test_e6_history_is_pruned_while_running(tmp_path):
    async with Store(tmp_path / "roundhouse.db", retention=Retention(requests=10)) as store:
        for n in range(1000):
            store.record_request(request(n, at=4e9))
        assert len(await store.recent_requests(1000)) == 10


async def test_e6_a_model_that_is_loaded_often_does_not_push_out_the_others(tmp_path):
    keep = Retention(per_model=5, loads=6, measurements=6)
    async with Store(tmp_path / "roundhouse.db", retention=keep) as store:
        store.record_load(load(7.0, model="rare"))
        store.record_measurement(Measurement("rare", "s1", "gpu0", 7, "pss", NOW, NOW))
        for n in range(100):
            store.record_load(load(float(n)))
            store.record_measurement(Measurement("alpha", "s1", "gpu0", 1000 - n, "pss", NOW, float(n)))
    async with Store(tmp_path / "roundhouse.db", retention=keep) as store:
        assert set(await store.expected_all()) == {("rare", "s1"), ("alpha", "s1")}
        assert await store.peaks_all() == {
            ("rare", "s1"): {"gpu0": [7]},
            ("alpha", "s1"): {"gpu0": [901, 902, 903, 904, 905]},
        }
        counts = await store._database.run(
            lambda db: db.execute("SELECT (SELECT count(*) FROM loads), (SELECT count(*) FROM measurements)").fetchone()
        )
    assert counts == (6, 6)


async def test_e6_all_models_together_are_bounded(tmp_path):
    keep = Retention(loads=6, measurements=6)
    async with Store(tmp_path / "roundhouse.db", retention=keep) as store:
        for n in range(20):
            store.record_load(load(1.0, model=f"m{n}"))
            store.record_measurement(Measurement(f"m{n}", "s1", "gpu0", 7, "pss", NOW, NOW))
    async with Store(tmp_path / "roundhouse.db", retention=keep) as store:
        assert {model for model, _ in await store.expected_all()} == {f"m{n}" for n in range(14, 20)}
        assert {model for model, _ in await store.peaks_all()} == {f"m{n}" for n in range(14, 20)}


async def test_g5_a_disk_that_fails_never_reaches_the_caller(store):
    store.record_load(load(3.0))
    await store.flush()
    assert store.dropped == 0
    await store._database.run(lambda db: db.execute("PRAGMA query_only = ON"))
    with capture_logs():
        store.record_request(request(1))
        store.record_load(load(1.0))
        await store.flush()
        assert store.dropped == 2
        assert await store.expected_load("alpha", "s1") == 3.0
        await store._database.run(lambda db: db.execute("PRAGMA query_only = OFF"))
        await store._database.run(lambda db: db.execute("DROP TABLE loads"))
        assert await store.expected_load("alpha", "s1") is None
        assert await store.peaks("alpha", "s1") == {}


async def test_g5_after_the_end_nothing_is_known_and_nothing_raises(tmp_path):
    async with Store(tmp_path / "roundhouse.db") as store:
        pass
    store.record_request(request(1))
    with capture_logs():
        assert await store.recent_requests() == []
    assert "1 dropped" in repr(store)
