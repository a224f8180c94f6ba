from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from roundhouse.app.install.plan import POLKIT_RULES, SYSTEM_UNITS, Facts, Unit, make_plan, named_units
from roundhouse.app.install.units import MARK, Account
from roundhouse.config.load import parse
from roundhouse.errors import ConfigError
from roundhouse.launchers.systemd.startfile import START_FILE, drop_in_text

FACTS = Facts(
    name="roundhouse",
    program=("/opt/venv/bin/python", "-P", "-m", "roundhouse"),
    account=Account("ivan", "ivan"),
    listen=("127.0.0.1:8002",),
    environment={"PATH": "/usr/bin"},
    environment_file=Path("/etc/roundhouse/environment"),
    unit_dir=SYSTEM_UNITS,
    existing={name: Unit("ivan") for name in ("sglang.service", "tabbyapi.service", "llamacpp.service")},
)
ORIGINAL = """
models:
  llama: {engine: sglang, service: sglang.service, script: /opt/llm/start_llama.sh}
  kat: {engine: sglang, service: sglang, script: /opt/llm/start_kat.sh}
  monstral: {tabby: {dir: /opt/tabbyAPI, model_dir: /models, model_name: m}, service: tabbyapi.service}
  behemoth: {engine: llamacpp, service: llamacpp.service, script: /opt/llm/start_behemoth.sh, port: 8085}
"""
RULE = str(POLKIT_RULES / "50-roundhouse.rules")


def planned(text=ORIGINAL, **changes):
    plan = make_plan(parse(text, Path("/etc/roundhouse/config.yaml"), {"HOME": "/home/me"}), replace(FACTS, **changes))
    return {str(file.path): file.text for file in plan.files}, plan.remarks


def drop_in(unit):
    return f"/etc/systemd/system/{unit}.d/50-roundhouse.conf"


def test_c7_the_originals_units_get_drop_ins_and_one_rule_and_are_left_as_they_are():
    files, remarks = planned()
    assert set(files) == {
        "/etc/systemd/system/roundhouse.service",
        "/etc/systemd/system/roundhouse.socket",
        drop_in("sglang.service"),
        drop_in("llamacpp.service"),
        RULE,
    }
    assert files[drop_in("sglang.service")].endswith(drop_in_text())
    assert '["llamacpp.service", "sglang.service", "tabbyapi.service"]' in files[RULE]
    assert remarks == ()
    assert all(MARK in text.splitlines()[0] for text in files.values())


def test_c3b_models_of_one_unit_are_one_unit():
    config = parse(ORIGINAL, Path("/x.yaml"), {"HOME": "/home/me"})
    assert [model.id for model in named_units(config)["sglang.service"]] == ["llama", "kat"]


def test_the_service_runs_this_program_with_this_configuration():
    files, _ = planned(name="model-router")
    text = files["/etc/systemd/system/model-router.service"]
    assert "ExecStart=/opt/venv/bin/python -P -m roundhouse serve --config /etc/roundhouse/config.yaml\n" in text
    assert str(POLKIT_RULES / "50-model-router.rules") in files


def test_f_a_unit_of_another_user_gets_nothing_and_that_is_told():
    files, remarks = planned(existing={**FACTS.existing, "llamacpp.service": Unit("root")})
    assert drop_in("llamacpp.service") not in files
    assert "llamacpp" not in files[RULE]
    assert len(remarks) == 1
    assert "llamacpp.service runs as root, not as ivan" in remarks[0]
    assert "--run-as root" in remarks[0]


def test_f_a_name_without_a_unit_file_is_never_in_the_rule():
    files, remarks = planned(existing={"tabbyapi.service": Unit("ivan")})
    assert '["tabbyapi.service"]' in files[RULE]
    assert [remark.split(":")[0] for remark in remarks] == ["sglang.service", "llamacpp.service"]
    assert "llama, kat can't be loaded" in remarks[0]
    assert "--engine-units" in remarks[0]


def test_units_that_are_missing_are_written_when_asked_for():
    files, remarks = planned(
        existing={}, engine_units=True, pythons={Path("/opt/tabbyAPI"): "/opt/tabbyAPI/venv/bin/python"}
    )
    assert remarks == ()
    assert f"ExecStart=/bin/sh {START_FILE}" in files["/etc/systemd/system/sglang.service"]
    tabby = files["/etc/systemd/system/tabbyapi.service"]
    assert "WorkingDirectory=/opt/tabbyAPI\nExecStart=/opt/tabbyAPI/venv/bin/python main.py\n" in tabby
    assert drop_in("tabbyapi.service") not in files
    assert '["llamacpp.service", "sglang.service", "tabbyapi.service"]' in files[RULE]


def test_units_of_others_are_never_written_over_but_ours_are_written_again():
    files, _ = planned(existing={"sglang.service": Unit("ivan"), "llamacpp.service": Unit("root", ours=True)})
    assert "/etc/systemd/system/sglang.service" not in files
    assert "User=ivan" in files["/etc/systemd/system/llamacpp.service"]


def test_root_needs_neither_drop_ins_nor_a_rule():
    files, _ = planned(account=Account("root", "root"), existing={"sglang.service": Unit("ivan")})
    assert set(files) == {"/etc/systemd/system/roundhouse.service", "/etc/systemd/system/roundhouse.socket"}


def test_a_service_of_a_users_own_touches_nothing_of_the_system():
    files, remarks = planned(account=None, unit_dir=Path("/home/me/.config/systemd/user"))
    assert all(path.startswith("/home/me/.config/systemd/user/roundhouse.") for path in files)
    assert "of the system manager" in remarks[0]
    _, remarks = planned(ORIGINAL + "systemd: user\n", account=None)
    assert remarks == ()
    _, remarks = planned(ORIGINAL + "systemd: user\n")
    assert "--user" in remarks[0]


@pytest.mark.parametrize("name", ["../../../etc/x", "a b", "x.socket", "-x", "é", "x/y.service"])
def test_what_is_no_name_of_a_unit_is_no_path_either(name):
    with pytest.raises(ConfigError, match="no name of a unit"):
        planned(f"models: {{m: {{engine: sglang, service: '{name}', script: /s}}}}")


def test_child_engines_decide_how_closed_the_service_is():
    closed, _ = planned()
    assert "NoNewPrivileges=yes" in closed["/etc/systemd/system/roundhouse.service"]
    opened, _ = planned(f"{ORIGINAL}  mine: {{command: 'serve --port ${{PORT}}'}}\n")
    assert "NoNewPrivileges=yes" not in opened["/etc/systemd/system/roundhouse.service"]


def test_e5_the_end_may_take_as_long_as_answers_and_engines_do():
    files, _ = planned("shutdown: {drain: 5m}\n")
    assert "TimeoutStopSec=360\n" in files["/etc/systemd/system/roundhouse.service"]
