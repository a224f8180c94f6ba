"""Start scripts as people write them, the original's among them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.app.start_script import Launch, has, launch_in, takes_port, value

SGLANG = """#!/bin/bash
python -m sglang.launch_server --sleep-on-idle \\
    --model-path /path/to/awq/model \\
    --port 30000 \\
    --host 0.0.0.0
"""
LLAMACPP = """#!/bin/bash
cd /srv/llama.cpp/build
exec ./bin/llama-server \\
    -m /path/to/model.gguf \\
    -ngl 999 \\
    --port 8085 \\
    --host 0.0.0.0 \\
    -c 4096
"""


def test_g4_the_originals_scripts():
    sglang, llamacpp = launch_in(SGLANG), launch_in(LLAMACPP)
    assert sglang.words[:4] == ("python", "-m", "sglang.launch_server", "--sleep-on-idle")
    assert not sglang.replaces_shell
    assert sglang.has("--sleep-on-idle")
    assert sglang.value("--port") == "30000"
    assert llamacpp.words[0] == "./bin/llama-server"
    assert llamacpp.replaces_shell
    assert llamacpp.value("--host") == "0.0.0.0"
    assert not llamacpp.has("--sleep-on-idle")


@pytest.mark.parametrize(
    ("text", "words", "replaces"),
    [
        ("exec env A=1 B='x y' serve --x # --y\n", ("serve", "--x"), True),
        ("A=1 serve --x\n", ("serve", "--x"), False),
        ("exec > log 2>&1\nserve --x\n", ("serve", "--x"), False),
        ("if [ -f x ]; then\n  serve --x\nfi\n", ("serve", "--x"), False),
        ("set -e\nsource venv/bin/activate\nserve --x\nexit 0\n", ("serve", "--x"), False),
        ("serve --x 'it is\n", ("serve", "--x", "'it", "is"), False),
        ("./serve\n", ("./serve",), False),
    ],
)
def test_the_command_is_found(text, words, replaces):
    assert launch_in(text) == Launch(words, replaces)


@pytest.mark.parametrize("text", ["", "#!/bin/sh\n", "# serve --x\ncd /\n"])
def test_a_script_without_a_command_tells_nothing(text):
    assert launch_in(text) is None


def test_the_last_value_counts_in_both_spellings():
    words = ("serve", "--port", "1", "--port=2", "--flag")
    assert value(words, "--port") == "2"
    assert value(words, "--flag") is None
    assert value(words, "--none") is None
    assert has(words, "--none", "--port")


@pytest.mark.parametrize(
    ("word", "ours"),
    [("$PORT", True), ("${PORT}", True), ("${PORT:-1}", True), ("$PORTS", False), ("1", False), (None, False)],
)
def test_our_own_port_is_recognised(word, ours):
    assert takes_port(word) is ours


@given(st.text(max_size=200))
def test_no_text_is_too_odd_to_read(text):
    found = launch_in(text)
    assert found is None or found.words
