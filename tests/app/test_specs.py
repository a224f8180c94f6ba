from __future__ import annotations

from roundhouse.app import specs
from roundhouse.app.specs import Looked, fingerprint
from roundhouse.config.models import ModelConfig
from roundhouse.ports import Build
from tests.app.twogpus import FACTS, box, spec
from tests.engines.models import model


def test_c3b_seats_are_claimed_in_every_place():
    found = spec(model(port=99, service="llm"))
    assert [{d: n for d, n in claim.items() if not d.startswith("gpu")} for claim in found] == [
        {"port:99": 1, "unit:llm": 1}
    ] * 2


def test_d2_an_engine_that_would_be_placed_otherwise_runs_differently():
    looked = Looked(FACTS, None, 0)
    assert fingerprint(model(), looked) != fingerprint(model(devices=("gpu1",)), looked)
    assert fingerprint(model(), looked) == fingerprint(model(memory="4GiB"), looked)


async def _command(asked: ModelConfig, claim):
    async def builds(_model, _engine):
        return Build(("engine",))

    looked = Looked(FACTS, None, 0)
    runnable = specs.make_runnable(asked, looked, None, builds, box())  # type: ignore[arg-type]  # nothing is started
    return await runnable.command(4711, runnable.place(claim))


async def test_d2_a_script_is_told_its_gpus_where_devices_name_them():
    script = model(path=None, script="/s", engine="sglang", port=1, devices=("gpu1",), env={"A": "b"})
    made = await _command(script, {"gpu1": 1})
    assert made.env == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1", "A": "b"}
    assert (await _command(script.model_copy(update={"devices": ()}), {"gpu0": 1})).env == {"A": "b"}
