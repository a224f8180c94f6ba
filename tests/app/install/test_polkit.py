"""What the rule really grants is tried on a real polkit in tests/e2e/test_service.py; here, that names can't escape."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from roundhouse.app.install.polkit import VERBS, rule_text


def test_f_the_rule_names_units_and_verbs_and_never_set_property():
    text = rule_text("ann", ["sglang.service", "llamacpp.service"])
    assert 'var units = ["llamacpp.service", "sglang.service"];' in text
    assert f"var verbs = {json.dumps(list(VERBS))};" in text
    assert 'action.lookup("verb")' in text
    assert 'action.id == "org.freedesktop.systemd1.manage-units"' in text
    assert "set-property" not in text


@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=3))
def test_no_name_becomes_code(user, names):
    text = rule_text(user, names)
    strings = re.compile(r'"(?:[^"\\\n]|\\.)*"')
    assert strings.sub('""', text).replace('[""]', "[]") == strings.sub('""', rule_text("a", names)).replace(
        '[""]', "[]"
    )
    assert len(text.splitlines()) == len(rule_text("a", ["b"]).splitlines())
