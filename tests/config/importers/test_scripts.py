import pytest

from roundhouse.config.importers.scripts import look
from roundhouse.config.importers.serving import CannotTellError

GOOD = "#!/bin/sh\nexec llama-server -m /m.gguf --port 7 --host 127.0.0.1\n"


@pytest.fixture
def script(tmp_path):
    def made(text, mode=0o755):
        path = tmp_path / "start.sh"
        path.write_text(text)
        path.chmod(mode)
        return path

    return made


def test_a_good_script_needs_no_advice(script):
    start = look(script(GOOD), "llamacpp")
    assert (start.port, start.advice) == (7, ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("#!/bin/sh\n", ""), "no first line"),
        (GOOD.replace("exec ", ""), "no `exec`"),
        (GOOD.replace("127.0.0.1", "0.0.0.0"), "opens the engine to the network"),
        (GOOD.replace("llama-server", "other"), "no command that starts llamacpp"),
        ("#!/bin/sh\nexec python -m sglang.launch_server --model-path /m\n", "has no --sleep-on-idle"),
        (
            "#!/bin/sh\nexec python -m sglang.launch_server --sleep-on-idle --model-path /m\n",
            "starts sglang, not llamacpp",
        ),
        (GOOD + "if x; then y; fi\n", "check the port"),
        ("#!/bin/sh\necho 'open", "line 2: ' is never closed"),
    ],
)
def test_what_would_better_be_changed(text, said, script):
    (advice,) = [advice for advice in look(script(text), "llamacpp").advice if said in advice]
    assert "start.sh" in advice


def test_a_script_that_cannot_be_executed_or_read(script, tmp_path):
    assert any("chmod +x" in said for said in look(script(GOOD, 0o644), "llamacpp").advice)
    assert "can't be read" in look(tmp_path / "none.sh", "llamacpp").advice[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("if x; then y; fi\n" + GOOD, "'if'"),
        ("prepare\n" + GOOD, "runs prepare as well"),
        (GOOD.replace("exec ", "exec numactl "), "through numactl"),
        ("export A=$(x)\n" + GOOD, "value of A"),
        ("echo", "no engine"),
    ],
)
def test_what_is_not_simple_stays_a_script(text, said, script):
    with pytest.raises(CannotTellError, match=said):
        look(script(text), "llamacpp").inline("m")


def test_a_simple_script_in_our_keys(script):
    start = look(script("export A=1\n" + GOOD.replace("exec", "B=2 exec")), "llamacpp")
    assert start.inline("m") == {"engine": "llamacpp", "path": "/m.gguf", "env": {"A": "1", "B": "2"}}
    assert start.program() is None
