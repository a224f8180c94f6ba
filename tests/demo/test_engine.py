import ctypes
import io
import platform
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from roundhouse.demo import assets, engine
from roundhouse.demo.cache import Cache
from roundhouse.demo.engine import ENGINE_VARIABLE, choose
from roundhouse.demo.fetch import Unavailable
from roundhouse.demo.problems import DemoError

SERVER = f"""#!{sys.executable}
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""
DIES = "#!/bin/sh\necho loading model\necho AMX is not ready\nkill -ILL $$\n"
FAILS = "#!/bin/sh\necho no such library >&2\nexit 3\n"


class Shelf(Cache):
    """A cache whose engines are scripts of ours."""

    def __init__(self, root: Path, prebuilt: str, module: str) -> None:
        super().__init__(root, lambda _wheels, _into: [], Console(file=io.StringIO()))
        self.scripts = {assets.LLAMA_SERVER.folder: prebuilt, assets.XLLAMACPP.folder: module}
        self.asked: list[str] = []

    def get(self, asset):
        self.asked.append(asset.folder)
        if self.scripts.get(asset.folder) == "unavailable":
            raise Unavailable("There is no package for this system.")
        folder = self.root / asset.folder
        folder.mkdir(exist_ok=True)
        if asset.folder in self.scripts:
            program = folder / "llama-server"
            program.write_text(self.scripts[asset.folder])
            program.chmod(0o755)
        return folder


@pytest.fixture
def able(monkeypatch):
    """A processor that the prebuilt server may run on; and the module's server is the script, not our shim."""
    monkeypatch.setattr(engine, "_processor_flags", lambda: frozenset({"avx2", "avx512f"}))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")

    def module(cache, note):
        folder = cache.get(assets.XLLAMACPP)
        return engine.Engine(engine._script(cache, "xllama-server", [folder / "llama-server"], []), False, note)

    monkeypatch.setattr(engine, "_module", module)


def test_the_prebuilt_server_is_taken_when_it_gives_a_token(tmp_path, able):
    shelf = Shelf(tmp_path, SERVER, FAILS)
    chosen = choose(shelf, tmp_path / "model.gguf", {})
    assert (chosen.prebuilt, chosen.note) == (True, "")
    assert assets.XLLAMACPP.folder not in shelf.asked


@pytest.mark.parametrize(
    ("prebuilt", "note"),
    [
        (DIES, "this processor lacks an instruction that it uses (its last words: AMX is not ready)"),
        (FAILS, "it ended with exit code 3 (its last words: no such library)"),
        ("unavailable", "There is no package for this system."),
    ],
)
def test_a_server_that_does_not_run_is_replaced_and_the_reason_said(tmp_path, able, prebuilt, note):
    chosen = choose(Shelf(tmp_path, prebuilt, SERVER), tmp_path / "model.gguf", {})
    assert not chosen.prebuilt
    assert chosen.note == note


@pytest.mark.parametrize(
    ("flags", "machine", "environment", "note"),
    [
        ({"avx2"}, "x86_64", {}, "it needs AVX-512, which this processor does not have"),
        ({"avx512f"}, "aarch64", {}, "it is built for x86_64, and this is aarch64"),
        ({"avx512f"}, "x86_64", {ENGINE_VARIABLE: "xllamacpp"}, f"{ENGINE_VARIABLE}=xllamacpp was asked for"),
    ],
)
def test_where_it_cannot_run_it_is_not_even_fetched(tmp_path, able, monkeypatch, flags, machine, environment, note):
    monkeypatch.setattr(engine, "_processor_flags", lambda: frozenset(flags))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    shelf = Shelf(tmp_path, SERVER, SERVER)
    assert choose(shelf, tmp_path / "model.gguf", environment).note == note
    assert assets.LLAMA_SERVER.folder not in shelf.asked


def test_when_none_runs_both_reasons_are_said(tmp_path, able):
    with pytest.raises(DemoError, match=r"lacks an instruction.*exit code 3"):
        choose(Shelf(tmp_path, DIES, FAILS), tmp_path / "model.gguf", {})


def test_a_server_that_never_answers_is_given_up(tmp_path, able, monkeypatch):
    monkeypatch.setattr(engine, "_PATIENCE", 0.2)
    chosen = choose_error(tmp_path)
    assert "gave no token" in chosen


def choose_error(tmp_path) -> str:
    with pytest.raises(DemoError) as caught:
        choose(Shelf(tmp_path, "#!/bin/sh\nexec sleep 600\n", FAILS), tmp_path / "model.gguf", {})
    return caught.value.message


def test_the_program_sets_the_paths_and_keeps_odd_ones_whole(tmp_path):
    shelf = Shelf(tmp_path / "a b'c$d", "", "")
    shelf.root.mkdir()
    shows = shelf.root / "shows"
    shows.write_text('#!/bin/sh\necho "$LD_LIBRARY_PATH|$PYTHONPATH|$*"\n')
    shows.chmod(0o755)
    program = engine._script(shelf, "x", [shows, "one two"], [shelf.root / "lib"], modules=shelf.root / "mod")
    assert program.stat().st_mode & stat.S_IXUSR
    said = subprocess.run([program, "--x"], env={}, capture_output=True, text=True, check=True).stdout
    assert said == f"{shelf.root}/lib|{shelf.root}/mod|one two --x\n"


def test_a_system_without_openmp_gets_it(tmp_path, monkeypatch):
    def missing(_name):
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert engine._openmp(Shelf(tmp_path, "", "")) == [tmp_path / assets.LIBGOMP.folder]
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert engine._openmp(Shelf(tmp_path, "", "")) == []
