"""`models pull`, and what it has of the hub (`app/hub/source`): the real library against a hub of ours."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import pytest

from tests.cli.commands import LIMIT, Terminal, argv, environ, run, run_here
from tests.support.gguf_files import write_tiny_chat, write_tiny_embedding
from tests.support.hub_double import COMMIT, Repository, hub

TOKEN = "hf_secretsecretsecret"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A GGUF file of some MB, whose end is hard to guess."""
    return write_tiny_chat(tmp_path_factory.mktemp("hub") / "model.gguf", "alpha").read_bytes()


@pytest.fixture(scope="module")
def large(model):
    """More than two of the pieces of 10 MiB that the library takes at once; what it has of one is lost with a cut."""
    return model + bytes(range(251)) * 100_000


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_tiny_embedding(tmp_path_factory.mktemp("hub") / "model.gguf").read_bytes()


@pytest.fixture
def pull(tmp_path):
    """Pulls below tmp_path, as somebody whose home it is."""
    models = tmp_path / "models"
    config = tmp_path / "roundhouse.yaml"
    config.write_text(f"models_dir: {models}\nstate_dir: {tmp_path / 'state'}\ndevices: {{ram: 64MiB, gpu0: 4MiB}}\n")

    def made(there, *arguments, **env):
        usual = {"HF_ENDPOINT": there.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": ""}
        how = run if env else run_here  # what the library reads of the environment, it reads once
        return how("models", "pull", *arguments, "-c", str(config), **usual | env)

    made.folder = models / "me/Tiny"
    made.config = config
    return made


def repositories(files, **more):
    return {"me/Tiny": Repository(files, **more)}


def test_a_model_comes_whole_and_is_listed(pull, model):
    with hub(repositories({"Tiny-Q4_0.gguf": model, "README.md": b"hello"})) as there:
        shown = pull(there, "me/Tiny")
    assert shown.code == 0, shown.err
    assert (pull.folder / "Tiny-Q4_0.gguf").read_bytes() == model
    assert f"Tiny-Q4_0 is whole: {pull.folder / 'Tiny-Q4_0.gguf'}" in shown.out
    assert "Next: roundhouse models check Tiny-Q4_0" in shown.out
    assert "3 MiB to come" in shown.err
    checked = run_here("check", "--json", "-c", str(pull.config)).json["models"]
    assert [entry["id"] for entry in checked] == ["Tiny-Q4_0"]


def test_elsewhere_it_says_what_to_write(pull, model, tmp_path):
    with hub(repositories({"Tiny-Q4_0.gguf": model})) as there:
        shown = pull(there, "me/Tiny:Q4_0", "--to", str(tmp_path / "other folder"), "--json")
    path = tmp_path / "other folder/me/Tiny/Tiny-Q4_0.gguf"
    assert shown.json == {
        "model": "Tiny-Q4_0",
        "path": str(path),
        "files": [str(path)],
        "size": len(model),
        "listed": False,
        "config": f'  Tiny-Q4_0:\n    # from me/Tiny\n    path: "{path}"\n',
    }


def test_without_a_quantisation_it_names_them_and_what_fits(pull, model, small):
    files = {
        "Tiny-Q4_0.gguf": model,
        "Tiny-Q8_0.gguf": model * 2,
        "Tiny-F32.gguf": model,
        "Tiny-Q2_K.gguf": small,
        "Tiny-Q6_K-00001-of-00002.gguf": small,
    }
    with hub(repositories(files, sizes={"Tiny-F32.gguf": 80 << 20})) as there:
        shown = pull(there, "me/Tiny")
        wrong = pull(there, "me/Tiny:Q5_K_M", "--json")
        half = pull(there, "me/Tiny:Q6_K")
    assert shown.code == wrong.code == half.code == 2
    assert "say which, me/Tiny:Q" in shown.err
    lines = {line.split()[0]: line.split() for line in shown.out.splitlines()}
    assert lines["Q4_0"] == ["Q4_0", "3", "MiB", "gpu0", "Tiny-Q4_0.gguf"]
    assert "too large" in " ".join(lines["Q8_0"])
    assert "too large" in " ".join(lines["F32"])
    assert "not whole" in " ".join(lines["Q6_K"])
    assert "me/Tiny has no Q5_K_M" in wrong.err
    fits = {choice["name"]: choice["fits"] for choice in wrong.json["choices"]}
    assert (fits["Q2_K"], fits["Q4_0"], fits["Q8_0"]) == (["gpu0"], ["gpu0"], [])
    assert "lacks Tiny-Q6_K-00002-of-00002.gguf" in half.err
    assert not pull.folder.exists()


def test_a_connection_that_breaks_is_taken_up_in_the_middle(pull, large):
    with hub(repositories({"Tiny-Q4_0.gguf": large}), cuts={"Tiny-Q4_0.gguf": [25_000_000]}) as there:
        shown = pull(there, "me/Tiny")
        stored = there.gets("/stored/")
    assert shown.code == 0, shown.err
    assert [request.get("range") for request in stored] == [None, "bytes=20971520-"]
    assert (pull.folder / "Tiny-Q4_0.gguf").read_bytes() == large
    assert "signature" not in shown.out + shown.err


@pytest.mark.parametrize("deaf", [False, True])
def test_a_pull_that_was_ended_goes_on_the_next_time(pull, model, deaf):
    pull.folder.mkdir(parents=True)
    part = pull.folder / f"Tiny-Q4_0.gguf.{hashlib.sha256(model).hexdigest()[:12]}.part"
    part.write_bytes(model[:2_000_000])
    with hub(repositories({"Tiny-Q4_0.gguf": model}), deaf=deaf) as there:
        shown = pull(there, "me/Tiny")
        (stored,) = there.gets("/stored/")
    assert shown.code == 0, shown.err
    assert stored["range"] == "bytes=2000000-"
    assert "2 MiB are there already" in shown.err
    assert [path.name for path in pull.folder.iterdir()] == ["Tiny-Q4_0.gguf"]
    assert (pull.folder / "Tiny-Q4_0.gguf").read_bytes() == model


def test_a_wrong_hash_leaves_nothing_and_exits_1(pull, model):
    with hub(repositories({"Tiny-Q4_0.gguf": model}, sha256={"Tiny-Q4_0.gguf": "a" * 64})) as there:
        shown = pull(there, "me/Tiny")
    assert shown.code == 1
    assert "its hash differs" in shown.err
    assert list(pull.folder.iterdir()) == []


def test_a_wrong_size_exits_1_and_nothing_gets_its_name(pull, model):
    with hub(repositories({"Tiny-Q4_0.gguf": model}, sizes={"Tiny-Q4_0.gguf": len(model) + 1})) as there:
        shown = pull(there, "me/Tiny")
    assert shown.code == 1
    assert shown.err.splitlines()[-1] == "roundhouse: The hub sent another Tiny-Q4_0.gguf than it said; try again."
    assert not (pull.folder / "Tiny-Q4_0.gguf").exists()


def test_a_disk_without_room_is_told_before_anything_comes(pull, model):
    with hub(repositories({"Tiny-Q4_0.gguf": model}, sizes={"Tiny-Q4_0.gguf": 10**15})) as there:
        shown = pull(there, "me/Tiny")
        assert there.gets("/resolve/") == []
    assert shown.code == 1
    assert "make room, or give another folder with --to" in shown.err
    assert not pull.folder.exists()


@pytest.mark.parametrize(
    ("repository", "env", "code", "said"),
    [
        ("me/None", {}, 4, "There is no me/None at"),
        ("me/Private", {}, 4, "or it is private: correct it, or give a token: HF_TOKEN"),
        ("me/Gated", {}, 4, "me/Gated is gated: accept its terms at {url}/me/Gated, then give a token"),
        ("me/Gated", {"HF_TOKEN": "hf_other"}, 4, "the one you have may not"),
        ("me/Empty", {}, 2, "nothing to run"),
        ("me/Tiny@@", {}, 2, "names no repository"),
        ("me/Ti--ny", {}, 4, "can't be the name of a repository"),
        ("me/Tiny", {"HF_HUB_OFFLINE": "1"}, 1, "HF_HUB_OFFLINE is set"),
    ],
)
def test_what_can_not_be_pulled(pull, model, repository, env, code, said):
    there_are = {
        "me/Tiny": Repository({"Tiny-Q4_0.gguf": model}),
        "me/Private": Repository({}, token=TOKEN),
        "me/Gated": Repository({}, token=TOKEN, gated=True),
        "me/Empty": Repository({"README.md": b"x"}),
    }
    with hub(there_are) as there:
        shown = pull(there, repository, **env)
        assert said.format(url=there.url) in shown.err
    assert shown.code == code
    assert "Traceback" not in shown.err
    assert "hf_other" not in shown.err


def test_a_revision_is_asked_for_and_an_unknown_one_told(pull, model):
    with hub(repositories({"Tiny-Q4_0.gguf": model}, revisions=("4.0bpw",))) as there:
        assert pull(there, "me/Tiny", "--revision", "4.0bpw").code == 0
        shown = pull(there, "me/Tiny", "--revision", "5bpw")
        assert there.gets(f"/resolve/{COMMIT}/")
    assert shown.code == 4
    assert "me/Tiny has no revision '5bpw'" in shown.err


def test_a_token_goes_to_the_hub_alone_and_is_never_shown(pull, model):
    with hub(repositories({"Tiny-Q4_0.gguf": model}, token=TOKEN, gated=True)) as there:
        shown = pull(there, "me/Tiny", HF_TOKEN=TOKEN, HF_DEBUG="1")
        asked, stored = there.gets("/api/models/"), there.gets("/stored/")
    assert shown.code == 0, shown.err
    assert asked[0]["authorization"] == f"Bearer {TOKEN}"
    assert "authorization" not in stored[0]
    assert TOKEN not in shown.out + shown.err


@pytest.mark.parametrize(
    ("broken", "said"), [((200, b"<html>"), "is no Hugging Face hub"), ((503, b""), "answers HTTP 503 for me/Tiny")]
)
def test_what_is_no_hub_or_an_ill_one_is_told(pull, broken, said):
    with hub({}, broken=broken) as there:
        shown = pull(there, "me/Tiny")
    assert shown.code == 1
    assert said in shown.err
    assert "Traceback" not in shown.err


def test_a_hub_that_is_not_there_is_told(pull):
    with hub({}) as gone:
        pass
    shown = pull(gone, "me/Tiny")
    assert shown.code == 1
    assert f"The hub at {gone.url} can't be reached (Connection refused)" in shown.err


def test_safetensors_come_as_a_folder(pull, model):
    files = {"config.json": b"{}", "model.safetensors": model, "tokenizer.json": b"{ }", "pytorch_model.bin": model}
    with hub(repositories(files)) as there:
        shown = pull(there, "me/Tiny", "--json")
    assert shown.code == 0, shown.err
    assert {path.name for path in pull.folder.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert (shown.json["model"], shown.json["path"], shown.json["listed"]) == ("Tiny", str(pull.folder), True)


def test_a_split_model_with_its_projector(pull, model, small):
    files = {
        "Q4_0/Tiny-Q4_0-00001-of-00002.gguf": model,
        "Q4_0/Tiny-Q4_0-00002-of-00002.gguf": small,
        "mmproj-F16.gguf": small,
        "Tiny-Q8_0.gguf": model,
    }
    with hub(repositories(files)) as there:
        shown = pull(there, "me/Tiny:Q4_0", "--json")
    assert shown.code == 0, shown.err
    assert [os.path.basename(path) for path in shown.json["files"]] == [
        "mmproj-F16.gguf",
        "Tiny-Q4_0-00002-of-00002.gguf",
        "Tiny-Q4_0-00001-of-00002.gguf",
    ]
    (found,) = run_here("import", str(pull.folder), "--json").json["models"]
    assert found == "Tiny-Q4_0"


def test_without_a_folder_to_put_it_or_a_configuration_it_says_so(tmp_path):
    bare = tmp_path / "roundhouse.yaml"
    bare.write_text(f"state_dir: {tmp_path / 'state'}\n")
    shown = run_here("models", "pull", "me/Tiny", "-c", str(bare))
    assert (shown.code, "say where to: --to FOLDER" in shown.err) == (2, True)
    home = {"HOME": str(tmp_path / "none"), "XDG_CONFIG_HOME": ""}
    with hub({}) as there:
        shown = run("models", "pull", "me/Tiny", "--to", "x", cwd=tmp_path, HF_ENDPOINT=there.url, **home)
    assert (shown.code, "There is no me/Tiny" in shown.err) == (4, True)


def test_without_the_library_it_says_how_to_get_it(tmp_path):
    code = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        f"sys.argv = ['roundhouse', 'models', 'pull', 'me/Tiny', '--to', {str(tmp_path)!r}]\n"
        "from roundhouse.cli import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 1
    assert "pip install 'roundhouse-llm[hub]'" in ended.stderr


def test_ctrl_c_keeps_what_has_come(pull, large):
    with hub(repositories({"Tiny-Q4_0.gguf": large}), pause={"Tiny-Q4_0.gguf": 25_000_000}) as there:
        with subprocess.Popen(
            argv("models", "pull", "me/Tiny", "-c", str(pull.config)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ(HF_ENDPOINT=there.url, HF_TOKEN=""),
        ) as pulling:
            assert there.paused.wait(LIMIT)
            os.kill(pulling.pid, signal.SIGINT)
            _, told = pulling.communicate(timeout=LIMIT)
        there.go_on.set()
    assert pulling.returncode == 130
    assert "the same command goes on from there" in told
    assert "Traceback" not in told
    (part,) = pull.folder.iterdir()
    assert part.read_bytes() == large[: part.stat().st_size]


def test_a_terminal_shows_a_bar(pull, model):
    with hub(repositories({"Tiny-Q4_0.gguf": model})) as there:
        env = {"HF_ENDPOINT": there.url, "HF_TOKEN": ""}
        terminal = Terminal("models", "pull", "me/Tiny", "-c", str(pull.config), **env)
        assert terminal.end() == 0
    assert "━" in terminal.shown
    assert "is whole" in terminal.shown


def test_what_json_says_is_json_alone(pull, model):
    with hub(repositories({"Tiny-Q4_0.gguf": model})) as there:
        shown = pull(there, "me/Tiny", "--json")
    assert json.loads(shown.out)["model"] == "Tiny-Q4_0"
