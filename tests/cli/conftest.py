"""One real Roundhouse with scripted engines, shared by the tests of a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.house import Place, Running, Scripted

if TYPE_CHECKING:
    from collections.abc import Iterator


class Real:
    """`roundhouse serve` and its models: `one`, `two` (which do not fit together), `gated` (loads when told to), `bad`."""

    def __init__(self) -> None:
        self.place = Place()
        self.gate = self.place.gate("load")
        folder = self.place.folder
        self.models = [
            Scripted(folder, "one", memory="40MiB", aliases=["uno"]),
            Scripted(folder, "two", memory="40MiB"),
            Scripted(folder, "gated", "--load-gate", str(self.gate), memory="40MiB"),
            Scripted(folder, "bad", "--die-at-start", "these were my last words"),
        ]
        self.place.write(self.models, devices={"ram": "64MiB"})
        self.url = f"http://127.0.0.1:{self.place.port}"


@pytest.fixture(scope="module")
def real() -> Iterator[Real]:
    made = Real()
    with Running(made.place):
        yield made
