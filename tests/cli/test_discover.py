import pytest

from roundhouse.config.load import parse
from tests.cli.commands import run_here
from tests.support.gguf_files import write_tiny_chat, write_tiny_embedding


@pytest.fixture
def home(tmp_path):
    """A home with two models of LM Studio, of which one is configured."""
    folder = tmp_path / ".lmstudio/models/me/Tiny"
    folder.mkdir(parents=True)
    write_tiny_chat(folder / "tiny-Q4_0.gguf", "alpha")
    write_tiny_embedding(folder / "embed: $HOME.gguf")
    (folder / "bad.gguf").write_bytes(b"x")
    (tmp_path / "roundhouse.yaml").write_text(f"models: {{mine: {{path: {folder / 'tiny-Q4_0.gguf'}}}}}\n")
    return tmp_path


def discover(home, *arguments):
    env = {"HOME": str(home), "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "", "HF_HOME": "", "HF_HUB_CACHE": ""}
    return run_here("models", "discover", *arguments, cwd=home, OLLAMA_MODELS=str(home / "none"), **env)


def test_what_is_there_and_what_of_it_is_configured(home):
    shown = discover(home)
    assert shown.code == 0, shown.err
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["tiny-Q4_0", "llamacpp", "F32", "3", "MiB", "8192", "lmstudio", "mine"] in lines
    assert any(line[0] == "bad" and "bad.gguf:" in " ".join(line) for line in lines)
    assert "3 found; searched" in shown.err
    models = {model["name"]: model for model in discover(home, "--json").json["models"]}
    assert models["tiny-Q4_0"]["configured"] == "mine"
    assert models["embed: $HOME"] | {"configured": None, "kind": "embedding", "problem": None} == models["embed: $HOME"]


def test_yaml_is_what_the_loader_reads(home):
    shown = discover(home, "--yaml")
    config = parse("models:\n" + shown.out, home / "x.yaml", {"HOME": str(home)})
    assert list(config.models) == ["embed: $HOME"]
    assert config.models["embed: $HOME"].path.exists()


def test_only_some_and_a_folder(home):
    folder = str(home / ".lmstudio")
    assert [m["name"] for m in discover(home, folder, "--only", "bad", "--json").json["models"]] == ["bad"]
    shown = discover(home, "--only", "nothing")
    assert (shown.code, "There is no nothing among the 3 models found" in shown.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"), [(["nowhere"], "There is no folder nowhere"), (["--yaml", "--json"], "choose one")]
)
def test_wrong_usage(home, arguments, said):
    shown = discover(home, *arguments)
    assert (shown.code, said in shown.err) == (2, True)


def test_nothing_at_all_is_no_error(tmp_path):
    shown = discover(tmp_path)
    assert (shown.code, shown.out) == (0, "")
    assert "0 found" in shown.err


def test_a_broken_configuration_is_told(home):
    (home / "roundhouse.yaml").write_text("modells: {}\n")
    assert discover(home).code == 2
