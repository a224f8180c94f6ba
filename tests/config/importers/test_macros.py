import pytest

from roundhouse.config.importers.macros import MOST, Macros, UnknownMacroError, mentioned, ours, variables
from roundhouse.config.importers.result import Template


def test_macros_in_macros_in_the_order_of_the_file():
    macros = Macros({"MODEL_ID": "m", "ctx": 4096, "args": "-c ${ctx} -a ${MODEL_ID}", "on": True})
    assert macros.put("run ${args} ${on}") == "run -c 4096 -a m true"
    assert macros.put({"${MODEL_ID}": ["${ctx}", 1, "x${ctx}"]}) == {"m": [4096, 1, "x4096"]}


def test_port_and_environment_stay_variables_and_other_dollars_stay_dollars():
    made = Macros({}).put("$5 ${PORT} ${env.KEY} $$")
    assert isinstance(made, Template)
    assert made == "$$5 ${PORT} ${KEY} $$$$"
    assert mentioned(made) == {"KEY"}
    assert mentioned(ours("${PORT} $${NOT}")) == set()
    assert variables("${env.A}${env.B_2}") == ["A", "B_2"]


def test_an_unknown_macro_is_named():
    with pytest.raises(UnknownMacroError, match=r"no macro \$\{none\}"):
        Macros({"a": "${none}"}).filled("${a}")


def test_a_macro_used_before_it_is_set_is_unknown_as_in_llama_swap():
    with pytest.raises(UnknownMacroError, match=r"\$\{b\}"):
        Macros({"a": "${b}", "b": "x"}).filled("${a}")


def test_macros_do_not_grow_without_bound():
    values = {"m0": "x" * 64} | {f"m{n}": f"${{m{n - 1}}}" * 8 for n in range(1, 30)}
    with pytest.raises(UnknownMacroError, match=str(MOST)):
        Macros(values).filled("${m29}")
