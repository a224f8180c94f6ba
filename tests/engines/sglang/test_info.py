from __future__ import annotations

import pytest

from roundhouse.engines.sglang.info import folder, served
from roundhouse.ports import Served
from tests.engines.models import CAPTURES

HERE = CAPTURES.parent / "sglang"
MODELS, SERVER = (HERE / "models.json").read_bytes(), (HERE / "server_info.json").read_bytes()


def test_what_a_real_one_tells():
    told = served({"/v1/models": MODELS, "/server_info": SERVER})
    assert told == Served(slots=4, context=1024, name="tiny", memory=int((0.014 + 0.016) * 2**30))
    assert folder({"/server_info": SERVER}) == "/models/tiny"


def test_older_versions_have_it_elsewhere_and_one_figure_for_graphs():
    old = b'{"model_path":"/m","max_running_requests":7,"internal_states":[{"memory_usage":{"weight":2,"kvcache":1,"graph":0.5}}]}'
    told = served({"/get_server_info": old})
    assert told == Served(slots=7, memory=int(3.5 * 2**30))
    assert folder({"/get_server_info": old}) == "/m"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"no",
        b"[1]",
        b'{"internal_states":{}}',
        b'{"internal_states":[]}',
        b'{"internal_states":[{"memory_usage":[]}],"model_path":3}',
        b'{"internal_states":[{"memory_usage":{"weight":null,"graph":{"a":"b"}}}]}',
    ],
)
def test_what_it_does_not_tell_is_left_out(reply):
    assert served({"/server_info": reply}) == Served()
    assert folder({"/server_info": reply}) is None
    assert served({}) == Served()
