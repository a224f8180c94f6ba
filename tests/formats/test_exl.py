import json

import pytest

from roundhouse.formats import exl
from roundhouse.formats.errors import FormatError
from tests.formats.test_safetensors import LLAMA, header


def config(**quantisation: object) -> bytes:
    return json.dumps({**LLAMA, "quantization_config": quantisation}).encode()


@pytest.mark.parametrize(("name", "form"), [("exl2", "exl2"), ("EXL3", "exl3")])
def test_facts(name, form):
    found = exl.facts(config(quant_method=name, bits=4.25), [header(8)])
    assert (found.format, found.quantisation, found.weights, found.layers) == (form, f"{form.upper()} 4.25 bpw", 8, 3)


def test_bits_may_be_missing():
    assert exl.facts(config(quant_method="exl3", bits=True), []).quantisation == "EXL3"


@pytest.mark.parametrize("raw", [config(quant_method="awq"), config(), b'{"quantization_config": 5}', b"{}"])
def test_other_folders_are_none_of_ours(raw):
    assert exl.method(raw) is None
    with pytest.raises(FormatError, match="neither"):
        exl.facts(raw, [])
