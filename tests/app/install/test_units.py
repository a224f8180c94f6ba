from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roundhouse.app.install import units
from roundhouse.app.install.units import Account, Router

ROUTER = Router(
    name="model-router",
    argv=("/bin/true", "serve", "--config", "/etc/roundhouse/config.yaml"),
    listen=("127.0.0.1:8002", "[::1]:8002"),
    account=Account("root", "root", ("video",)),
    environment={"PATH": "/usr/bin:/bin"},
    environment_file=Path("/etc/roundhouse/environment"),
    children=True,
    any_host=False,
    stop_limit=90.0,
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=20)


def directives(text: str) -> dict[str, list[str]]:
    """Values by name; all of one name in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def unquoted(word: str) -> str:
    """What systemd makes of one word that we wrote (systemd.syntax(7)): the oracle."""
    if word.startswith('"'):
        assert word.endswith('"')
        word = re.sub(r"\\(.)", r"\1", word[1:-1])
    return word.replace("%%", "%")


@given(WORDS | st.text("a %\"'\\;$", max_size=8))
@example("")
def test_a_quoted_word_is_read_as_it_was(word):
    assert unquoted(units.quoted(word)) == word
    assert unquoted(units.command_line([word])).replace("$$", "$") == word


@pytest.mark.parametrize("word", ["a\nExecStart=/bin/evil", "\0", "a\tb", "\x7f"])
def test_control_characters_never_get_into_a_unit_file(word):
    with pytest.raises(ValueError, match="can't hold"):
        units.quoted(word)


def test_specifiers_are_systemds_only_where_that_is_meant():
    assert units.command_line(["/run/%N/start"]) == "/run/%%N/start"
    assert units.command_line(["/run/%N/start"], specifiers=True) == "/run/%N/start"


def test_e5_the_socket_holds_every_address_and_each_family_by_itself():
    text = units.socket_text(ROUTER)
    assert directives(text)["ListenStream"] == ["127.0.0.1:8002", "[::1]:8002"]
    assert directives(text)["BindIPv6Only"] == ["ipv6-only"]
    assert "FreeBind" not in directives(text)
    assert directives(units.socket_text(replace(ROUTER, any_host=True)))["FreeBind"] == ["yes"]


def test_e5_engines_outlive_a_restart_of_the_service():
    found = directives(units.service_text(ROUTER))
    assert found["KillMode"] == ["process"]
    assert found["OOMPolicy"] == ["continue"]
    assert found["RuntimeDirectoryPreserve"] == ["yes"]
    assert found["Type"] == ["notify"]
    assert int(found["WatchdogSec"][0]) > 0
    assert found["Requires"] == ["model-router.socket"]


IMPLY_NO_NEW_PRIVILEGES = {
    *(
        "NoNewPrivileges",
        "SystemCallFilter",
        "SystemCallArchitectures",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
    ),
    *("PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectClock"),
    *("MemoryDenyWriteExecute", "RestrictRealtime", "RestrictSUIDSGID", "DynamicUser", "LockPersonality"),
    *("ProtectHostname", "SystemCallLog"),
}
"""systemd.exec(5), of a service that is not root's."""
HARMFUL = {"MemoryDenyWriteExecute", "PrivateDevices", "PrivateTmp", "CapabilityBoundingSet", "ProtectHome"}


@pytest.mark.parametrize("user", ["root", "ann"])
def test_child_engines_inherit_nothing_that_they_cannot_live_with(user):
    found = directives(units.service_text(replace(ROUTER, account=Account(user, user))))
    assert found.keys() & (IMPLY_NO_NEW_PRIVILEGES | HARMFUL) == set()
    assert found["ProtectSystem"] == ["full"]


def test_without_child_engines_the_service_is_closed():
    found = directives(units.service_text(replace(ROUTER, account=Account("ann", "ann"), children=False)))
    assert found["NoNewPrivileges"] == ["yes"]
    assert found["CapabilityBoundingSet"] == [""]
    assert "AF_UNIX" in found["RestrictAddressFamilies"][0].split()  # systemd is asked over it
    assert found.keys() & {"MemoryDenyWriteExecute", "PrivateDevices", "PrivateTmp", "ProtectHome"} == set()


def test_a_service_of_a_users_own_asks_for_nothing_that_takes_root():
    text = units.service_text(replace(ROUTER, account=None))
    found = directives(text)
    assert found.keys() & {"User", "Group", "SupplementaryGroups", "ProtectSystem", "StateDirectory"} == set()
    assert found["WantedBy"] == ["default.target"]
    assert "systemctl --user" in found["ExecStop"][0]
    assert not found["ExecStop"][0].startswith("-+")


def test_an_engine_unit_ends_its_whole_tree_and_never_starts_by_itself():
    text = units.engine_text("sglang.service", Account("ann", "ann"), ("/bin/sh", "/run/roundhouse/units/%N/start"))
    assert directives(text)["KillMode"] == ["control-group"]
    assert directives(text)["ExecStart"] == ["/bin/sh /run/roundhouse/units/%N/start"]
    assert directives(text)["User"] == ["ann"]
    assert "[Install]" not in text


@pytest.mark.parametrize("text", [units.socket_text(ROUTER), units.service_text(ROUTER)])
def test_every_file_says_in_its_first_line_who_wrote_it(text):
    assert units.MARK in text.splitlines()[0]


VARIANTS = {
    "children": ROUTER,
    "closed": replace(ROUTER, children=False),
    "closed-user": replace(ROUTER, children=False, account=Account("daemon", "daemon", ("video",))),
    "everywhere": replace(ROUTER, listen=("0.0.0.0:8002", "[::]:8002"), any_host=True),
    "odd": replace(
        ROUTER,
        argv=("/bin/true", "a b", "50%", "$HOME", 'say "no"', "back\\slash", "semi;colon", ""),
        environment={"PATH": '/opt/100% "sure"/it\'s:/bin'},
    ),
}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("variant", VARIANTS)
def test_systemd_finds_nothing_wrong(variant, tmp_path):
    router = VARIANTS[variant]
    service, socket = tmp_path / "model-router.service", tmp_path / "model-router.socket"
    engine = tmp_path / "engine.service"
    service.write_text(units.service_text(router))
    socket.write_text(units.socket_text(router))
    engine.write_text(
        units.engine_text(engine.name, Account("root", "root", ("video",)), ("/bin/sh", "/run/%N"), tmp_path)
    )
    verified = verify(service, socket, engine)
    assert (verified.returncode, verified.stderr) == (0, "")


def verify(*files: Path) -> subprocess.CompletedProcess[str]:
    words = ["systemd-analyze", "--man=no", "--recursive-errors=no", "verify", *map(str, files)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_would_have_found_something_wrong(tmp_path):
    broken = tmp_path / "broken.service"
    broken.write_text(units.service_text(ROUTER).replace("KillMode=process", "KillMode=sometimes"))
    assert "kill mode" in verify(broken).stderr


@settings(max_examples=30, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=4), st.dictionaries(st.from_regex(r"[A-Z]{1,5}", fullmatch=True), WORDS))
def test_whatever_it_holds_each_directive_stays_on_its_line(words, environment):
    text = units.service_text(replace(ROUTER, argv=("/bin/true", *words), environment=environment))
    plain = units.service_text(replace(ROUTER, argv=("/bin/true",), environment={}))
    assert len(text.splitlines()) == len(plain.splitlines()) + len(environment)
