"""What systemd refuses, as a sentence with what to do next."""

from __future__ import annotations

import pytest

from roundhouse.errors import LoadFailed
from roundhouse.launchers.systemd.bus import BusLost, Refused
from roundhouse.launchers.systemd.refusals import in_words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BusLost("no such file or directory"), "systemd can't be reached: no such file or directory"),
        (Refused("org.freedesktop.DBus.Error.AccessDenied", "no"), "sudo roundhouse install"),
        (Refused("org.freedesktop.systemd1.UnitMasked", "Unit x is masked."), "systemd says: Unit x is masked."),
        (PermissionError(13, "Permission denied", "/run/x"), "Permission denied"),
    ],
)
def test_every_refusal_is_a_sentence_about_what_was_wanted(error, words):
    with pytest.raises(LoadFailed) as caught, in_words("'model'"):
        raise error
    assert caught.value.message.startswith("'model' can't be started: ")
    assert words in caught.value.message
