import pytest

from roundhouse.app.machine import box_of, room_for
from roundhouse.app.places import Box
from roundhouse.config.models import Config

GIB = 1 << 30
TWO = Box({"ram": 64 * GIB, "gpu0": 8 * GIB, "gpu1": 24 * GIB})


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        (7 * GIB, TWO, ("gpu0",)),
        (8 * GIB, TWO, ("gpu1",)),  # a tenth more than its files
        (25 * GIB, TWO, ("gpu0", "gpu1")),
        (30 * GIB, TWO, ()),
        (30 * GIB, Box({"ram": 64 * GIB}), ("ram",)),
        (60 * GIB, Box({"ram": 64 * GIB}), ()),
        (1, Box({}), ()),
    ],
)
def test_where_it_would_fit(size, box, expected):
    assert room_for(size, box) == expected


async def test_the_box_is_what_is_configured_else_what_is_there():
    box = await box_of(Config(devices={"gpu7": 5}))
    assert box.sizes["gpu7"] == 5
    assert box.sizes["ram"] == box.physical["ram"] > 0
