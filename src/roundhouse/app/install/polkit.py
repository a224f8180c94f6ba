"""The polkit rule by which an unprivileged router starts and stops its engines' units. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from roundhouse.app.install.units import MARK

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = ("start", "stop", "restart", "reset-failed", "kill", "ref")
"""What the launcher asks systemd for. Never set-property: it would let the user change what a unit runs as."""


def rule_text(user: str, units: Sequence[str]) -> str:
    """The rule: this user, these units, these verbs and nothing else.

    systemd tells polkit unit and verb of `org.freedesktop.systemd1.manage-units` (polkit >= 0.106 has rules). A rule
    that looks at the unit alone also grants set-property. Every unit named must have a file: newer versions of systemd
    may tell the name of a transient unit too, and a name without a file could then be run as root.
    """
    return f"""// {MARK}. It writes it anew when run again.
// {json.dumps(user)} may start and stop the units that its configuration names, and nothing else.
polkit.addRule(function (action, subject) {{
    var units = {json.dumps(sorted(units))};
    var verbs = {json.dumps(list(VERBS))};
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == {json.dumps(user)} &&
        units.indexOf(action.lookup("unit")) >= 0 && verbs.indexOf(action.lookup("verb")) >= 0)
        return polkit.Result.YES;
}});
"""
