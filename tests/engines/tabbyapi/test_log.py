import pytest

from roundhouse.core.model import Progress
from roundhouse.engines.tabbyapi import log

STAMP = "2026-11-22 17:08:24.822 "


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("INFO:     Loading model: /srv/models/A", Progress(stage="reading weights")),
        ("INFO:     Loading draft model: /srv/models/D", Progress(stage="reading the draft model")),
        ("INFO:     Model successfully loaded.", Progress(0.99, "making it ready")),
        ('INFO:     127.0.0.1:5 - "GET /health HTTP/1.1" 200', None),
        ("", None),
    ],
)
def test_c5_stages(line, told):
    assert log.progress(STAMP + line) == told


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ["WARNING:  Port 5000 is currently in use. Switching to 5001."],
            "port 5000 is taken by another program, so TabbyAPI went to 5001",
        ),
        (
            ["WARNING:  Port 5000 is currently in", "      use. Switching to 5001."],
            "port 5000 is taken",
        ),  # at 80 columns
        (["ERROR:    Ports 5000 and 5001 are in use by different services.", "Exiting."], "port 5000 is taken"),
        (
            ["Traceback (most recent call last):", "RuntimeError: Insufficient VRAM in split for model and cache"],
            "not enough GPU memory (Insufficient VRAM",
        ),
        (
            ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."],
            "not enough GPU memory (CUDA out of memory. Tried",
        ),
        (
            ["ValueError: Models quantized with 'exl2' require the exllamav2 backend, which is no longer supported."],
            "this TabbyAPI can't load EXL2",
        ),
        (
            ["1 validation error for AuthKeys", "admin_key", "  Input should be a valid string [type=string_type]"],
            "its api_tokens.yml holds no usable keys",
        ),
        (
            [
                "1 validation error for TabbyConfigModel",
                "model.cache_mode",
                "  Input should be 'FP16', 'Q8' [type=literal_error]",
            ],
            "TabbyAPI does not take model.cache_mode of its config.yml (Input should be 'FP16', 'Q8')",
        ),
        (
            [
                "The YAML config from 'config.yml' couldn't load because of the following error:",
                "",
                "mapping values are not allowed",
            ],
            "its config.yml is not YAML (mapping values",
        ),
        (
            ["ERROR: Inference dependencies for TabbyAPI are not installed."],
            "TabbyAPI's dependencies are not installed",
        ),
        (["ModuleNotFoundError: No module named 'uvloop'"], "its Python has no module 'uvloop'"),
        (
            ["FileNotFoundError: [Errno 2] No such file or directory: '/srv/models/x/config.json'"],
            "the file /srv/models/x/config.json does not exist",
        ),
        (["RuntimeError: boom", "INFO: shutting down"], "TabbyAPI says: boom"),
        (["INFO: all is well"], ""),
        ([], ""),
    ],
)
def test_why_it_ended(lines, said):
    told = log.failure(lines)
    assert told.startswith(said)
    assert bool(told) is bool(said)
