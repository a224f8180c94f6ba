"""Vectors in base64 where an engine speaks numbers only."""

from __future__ import annotations

import base64
import struct

import pytest

from roundhouse.dialects.embeddings import encode


def test_numbers_become_little_endian_floats():
    data = [{"index": 0, "embedding": [1.0, -2.5, 3]}, {"index": 1, "embedding": "AAAA"}]
    assert encode(data)
    assert struct.unpack("<3f", base64.b64decode(data[0]["embedding"])) == (1.0, -2.5, 3.0)
    assert data[1] == {"index": 1, "embedding": "AAAA"}


@pytest.mark.parametrize("data", [None, [], ["x"], [{}], [{"embedding": []}], [{"embedding": [[1.0], [2.0]]}]])
def test_anything_else_stays(data):
    assert not encode(data)
