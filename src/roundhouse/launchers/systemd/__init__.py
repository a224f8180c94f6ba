"""Launcher `systemd`: engines as units of the system or the user manager, over D-Bus (tried on version 252)."""

from roundhouse.launchers.systemd.launcher import SystemdLauncher
from roundhouse.launchers.systemd.startfile import drop_in_text

__all__ = ["SystemdLauncher", "drop_in_text"]
