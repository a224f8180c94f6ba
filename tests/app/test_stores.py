from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from roundhouse.app.stores import Place, place_of, search, usual_places
from tests.support.gguf_files import write_tiny_chat
from tests.support.import_sources import Store

COMMIT, OLDER = "c" * 40, "a" * 40


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return write_tiny_chat(tmp_path_factory.mktemp("model") / "model.gguf", "alpha").read_bytes()


def hub_cache(home, repository, files, commit=COMMIT, main=True):
    """As huggingface_hub lays it out: contents in blobs, links to them in snapshots."""
    place = home / "huggingface/hub" / f"models--{repository.replace('/', '--')}"
    for name, content in files.items():
        blob = place / "blobs" / f"{commit}{name.replace('/', '-')}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = place / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    if main:
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs/main").write_text(commit)
    return place


def found(*places):
    models, warnings = search(places)
    return {model.name: model for model in models}, warnings


def safetensors(**more):
    header = json.dumps({"w": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"} | more
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": len(header).to_bytes(8, "little") + header + bytes(4),
    }


def test_the_hubs_cache_gguf_and_safetensors(tmp_path, gguf):
    hub_cache(tmp_path, "me/Tiny-GGUF", {"Tiny-Q4_0.gguf": gguf})
    hub_cache(tmp_path, "me/Tiny--8B", safetensors())
    hub_cache(tmp_path, "me/tokenizer-only", {"tokenizer.json": b"{}"})
    models, warnings = found(Place("huggingface", tmp_path / "huggingface/hub"))
    assert {name: model.body["engine"] for name, model in models.items()} == {
        "Tiny--8B": "vllm",
        "Tiny-Q4_0": "llamacpp",
    }
    assert warnings == ()
    assert models["Tiny-Q4_0"].facts.context == 8192
    assert models["Tiny-Q4_0"].path.name == "Tiny-Q4_0.gguf"


def test_of_several_snapshots_main_counts_else_the_newest(tmp_path, gguf):
    place = hub_cache(tmp_path, "me/Tiny", {"new.gguf": gguf})
    hub_cache(tmp_path, "me/Tiny", {"old.gguf": gguf}, OLDER, main=False)
    assert list(found(Place("huggingface", tmp_path / "huggingface/hub"))[0]) == ["new"]
    (place / "refs/main").write_text("gone")
    os.utime(place / "snapshots" / OLDER, (2e9, 2e9))
    assert list(found(Place("huggingface", tmp_path / "huggingface/hub"))[0]) == ["old"]


def test_half_a_repository_is_told_and_left_out(tmp_path):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    files = safetensors() | {"model.safetensors.index.json": json.dumps(index).encode()}
    hub_cache(tmp_path, "me/Half", files)
    models, warnings = found(Place("huggingface", tmp_path / "huggingface/hub"))
    assert models == {}
    assert warnings == ("me/Half is not whole: model-00001-of-00002.safetensors missing",)


def test_ollama_and_lm_studio(tmp_path, gguf):
    store = Store(tmp_path / "ollama")
    store.add("registry.ollama.ai/library/tiny/latest", store.layer("model", gguf))
    store.add("registry.ollama.ai/library/remote/cloud")
    (tmp_path / "lm/maker/Tiny-GGUF").mkdir(parents=True)
    (tmp_path / "lm/maker/Tiny-GGUF/Tiny-Q4_0.gguf").write_bytes(gguf + b" ")
    models, warnings = found(Place("ollama", tmp_path / "ollama"), Place("lmstudio", tmp_path / "lm"))
    assert {name: model.store for name, model in models.items()} == {"tiny:latest": "ollama", "Tiny-Q4_0": "lmstudio"}
    assert models["tiny:latest"].body["aliases"] == ["tiny"]
    assert "remote:cloud: it has no weights here" in warnings[0]


def test_a_file_counts_once_and_names_differ(tmp_path, gguf):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.gguf").write_bytes(gguf)
    (tmp_path / "c").symlink_to("a")
    models, _ = found(*(Place("folder", tmp_path / name) for name in ("a", "b", "c")))
    assert list(models) == ["model", "model-2"]
    assert models["model-2"].path == tmp_path / "b/model.gguf"


def test_a_broken_file_is_found_with_its_problem(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"no")
    models, _ = found(Place("folder", tmp_path))
    assert models["bad"].facts is None
    assert "bad.gguf" in models["bad"].problem


def test_an_empty_ollama_is_a_sentence_and_no_error(tmp_path):
    Store(tmp_path)
    models, warnings = found(Place("ollama", tmp_path))
    assert models == {}
    assert "holds no model" in warnings[0]


@pytest.mark.parametrize(
    ("env", "folder", "store"),
    [
        ({}, ".cache/huggingface/hub", "huggingface"),
        ({"XDG_CACHE_HOME": "{}/xdg"}, "xdg/huggingface/hub", "huggingface"),
        ({"HF_HOME": "{}/hf"}, "hf/hub", "huggingface"),
        ({"HF_HUB_CACHE": "{}/cache"}, "cache", "huggingface"),
        ({}, ".lmstudio/models", "lmstudio"),
        ({}, ".cache/lm-studio/models", "lmstudio"),
        ({}, ".ollama/models", "ollama"),
        ({"OLLAMA_MODELS": "{}/o"}, "o", "ollama"),
    ],
)
def test_where_they_are_looked_for(tmp_path, env, folder, store):
    (tmp_path / folder).mkdir(parents=True)
    places = usual_places({"HOME": str(tmp_path)} | {name: value.format(tmp_path) for name, value in env.items()})
    assert Place(store, tmp_path / folder) in places


def test_whose_a_folder_is(tmp_path, gguf):
    Store(tmp_path / "o")
    hub_cache(tmp_path, "me/Tiny", {"a.gguf": gguf})
    stores = [place_of(tmp_path / name).store for name in ("o", "huggingface/hub", "huggingface", "none")]
    assert stores == ["ollama", "huggingface", "folder", "folder"]


def test_where_this_user_may_not_look_is_told_and_the_rest_is_found(tmp_path, gguf, monkeypatch):
    """Ollama's own user keeps its store to itself; root, as whom tests may run, would get in."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/tiny.gguf").write_bytes(gguf)
    closed = tmp_path / ".ollama/models"
    allowed = Path.is_dir

    def is_dir(path):
        if path.is_relative_to(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return allowed(path)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    places = usual_places({"HOME": str(tmp_path)})
    assert Place("ollama", closed) in places
    models, warnings = found(*places, Place("folder", tmp_path / "models"))
    assert list(models) == ["tiny"]
    assert any(f"{closed}" in text and "can't be read (Permission denied)" in text for text in warnings)
    assert place_of(closed).store == "folder"
