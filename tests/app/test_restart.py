"""That a restart and a stop are told apart is shown on a real systemd: tests/e2e/test_service.py."""

from __future__ import annotations

import pytest

from roundhouse.app.restart import is_restart


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "@nobody", "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere"},
        {"NOTIFY_SOCKET": "@nobody", "DBUS_SYSTEM_BUS_ADDRESS": "no address"},
        {"NOTIFY_SOCKET": "@nobody", "MANAGERPID": "1", "XDG_RUNTIME_DIR": "/nowhere"},
    ],
)
async def test_e5_where_nobody_can_be_asked_it_is_no_restart(environ):
    assert await is_restart(environ) is False
