"""Ports for engines: free ones, and those that others have."""

from __future__ import annotations

import os
import socket

import pytest

from roundhouse.errors import LoadFailed
from roundhouse.runtime.listening import check_free, free_port


def test_a_free_port_is_free():
    check_free(free_port())


def test_a_taken_one_is_refused_with_the_name_of_who_has_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LoadFailed, match=rf"port {port} is taken by .*{os.getpid()}"):
            check_free(port)
