import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from roundhouse.errors import ConfigError
from roundhouse.runtime.lock import install_id, state_lock

HOLD = """
import sys, pathlib
from roundhouse.runtime.lock import state_lock
with state_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def piped(script, folder) -> Any:
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.fixture
def holder(tmp_path):
    process = piped(HOLD, tmp_path)
    with process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_e1_a_second_roundhouse_is_refused_naming_the_first(tmp_path, holder):
    with pytest.raises(ConfigError, match=rf"\(pid {holder.pid}\) uses {tmp_path}"), state_lock(tmp_path):
        pytest.fail("both hold it")


def test_e1_the_lock_of_a_killed_one_is_free(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "lock").read_text().strip() == str(holder.pid)
    with state_lock(tmp_path):
        assert (tmp_path / "lock").read_text().strip() == str(os.getpid())


def test_e1_the_lock_is_given_back_also_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), state_lock(tmp_path):
            _ = 1 / 0
    with state_lock(tmp_path):
        pass
    assert (tmp_path / "lock").read_text() == ""


def test_e1_a_refused_one_leaves_the_holders_pid_alone(tmp_path):
    with state_lock(tmp_path):
        for _ in range(2):
            with pytest.raises(ConfigError, match=f"pid {os.getpid()}"), state_lock(tmp_path):
                pytest.fail("both hold it")


def test_e1_a_holder_that_has_not_written_its_pid_yet(tmp_path):
    with state_lock(tmp_path):
        (tmp_path / "lock").write_text("")
        with pytest.raises(ConfigError, match="pid unknown"), state_lock(tmp_path):
            pytest.fail("both hold it")


def test_e3_an_engine_that_outlives_us_does_not_keep_the_lock(tmp_path):
    script = HOLD.replace("    sys.stdin.read()", "    import subprocess; subprocess.run(['cat'], close_fds=False)")
    script = script.replace('print("held", flush=True)', "")
    script = script.replace("['cat']", "['sh', '-c', 'echo $$; exec cat']")
    process = piped(script, tmp_path)
    with process:
        engine = int(process.stdout.readline())
        process.kill()
        process.wait()
        os.kill(engine, 0)  # it lives
        with state_lock(tmp_path):
            process.stdin.close()
            assert process.stdout.read() == b""


def test_f4_folder_and_files_are_the_owners(tmp_path):
    state = tmp_path / "a" / "state"
    with state_lock(state):
        install_id(state)
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in state.iterdir()} == {0o600}


@pytest.mark.parametrize("use", [install_id, lambda path: state_lock(path).__enter__()])
def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path, use):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="state_dir"):
        use(tmp_path / "file" / "state")


def test_e1_install_id_is_made_once(tmp_path):
    first = install_id(tmp_path / "one")
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert install_id(tmp_path / "one") == first
    assert install_id(tmp_path / "two") != first
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["install-id"]


@pytest.mark.parametrize("content", [b"", b"xyz", b"ABCDEF0123456789", b"abcd", b"\xff\xfe", b"0" * 17])
def test_e1_a_damaged_install_id_is_made_anew(tmp_path, content):
    (tmp_path / "install-id").write_bytes(content)
    fresh = install_id(tmp_path)
    assert len(fresh) == 16
    assert install_id(tmp_path) == fresh


def test_e1_an_install_id_of_eight_digits_is_kept(tmp_path):
    (tmp_path / "install-id").write_text("0123abcd\n")
    assert install_id(tmp_path) == "0123abcd"


def test_e1_many_at_once_get_the_same_install_id(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(install_id, [tmp_path] * 32))) == 1
