import pytest

from roundhouse.config.importers.ollama import is_store, read
from roundhouse.errors import ConfigError
from tests.support.import_sources import Store, imported

WEIGHTS = b"GGUF and the rest"
LIBRARY = "registry.ollama.ai/library"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "models")


def test_c7_a_model_of_ollama_keeps_its_name_weights_and_parameters(store, tmp_path):
    model, projector = store.layer("model", WEIGHTS), store.layer("projector", b"GGUF projector")
    params = store.layer(
        "params",
        {
            "num_ctx": 8192,
            "temperature": 0.6,
            "top_k": 20,
            "use_mmap": False,
            "stop": ["<|im_end|>"],
            "mirostat": 1,
            "num_keep": 5,
        },
    )
    store.add(f"{LIBRARY}/llama3.2/3b", model, projector, params, store.layer("license", b"MIT"))
    found, config = imported(tmp_path / "models")
    (entry,) = config.models.values()
    assert entry.id == "llama3.2:3b"
    assert (entry.engine, entry.context, entry.set) == ("llamacpp", 8192, {"stop": ["<|im_end|>"]})
    assert entry.path == store.path(model["digest"])
    assert entry.mmproj == store.path(projector["digest"])
    assert entry.args == ("--temp", "0.6", "--top-k", "20", "--no-mmap")
    assert found.models["llama3.2:3b"].lost == ("the parameter mirostat 1", "the parameter num_keep 5")


def test_names_of_other_makers_and_places(store, tmp_path):
    layer = store.layer("model", WEIGHTS)
    for place in (f"{LIBRARY}/a/latest", "registry.ollama.ai/ann/b/q4", "hf.co/org/c/Q8_0"):
        store.add(place, layer)
    _, config = imported(tmp_path)
    assert list(config.models) == ["a:latest", "ann/b:q4", "hf.co/org/c:Q8_0"]
    assert list(config.models["a:latest"].aliases) == ["a"]


def test_what_llama_cpp_does_not_take_from_a_manifest_is_told(store, tmp_path):
    layers = [store.layer(kind, kind.encode()) for kind in ("adapter", "template", "system", "messages")]
    store.add(f"{LIBRARY}/a/1", store.layer("model", WEIGHTS), *layers)
    found, _ = imported(tmp_path)
    assert [said.split(" (")[0].split(";")[0] for said in found.models["a:1"].lost] == [
        "an adapter",
        "the prompt template",
        "the system prompt",
        "example messages",
    ]


def test_a_list_of_manifests_gives_the_one_for_llama_cpp(store, tmp_path):
    good, bad = store.layer("model", WEIGHTS), store.layer("model", b"MLX")
    inner = store.blob({"layers": [good]})
    store.add(
        f"{LIBRARY}/inline/1", manifests=[{"runner": "mlx", "layers": [bad]}, {"runner": "llamacpp", "layers": [good]}]
    )
    store.add(f"{LIBRARY}/referred/1", manifests=[{"runner": "ollama", "digest": inner}])
    store.add(f"{LIBRARY}/none/1", manifests=[{"runner": "mlx", "layers": [bad]}])
    found, config = imported(tmp_path)
    assert list(config.models) == ["inline:1", "referred:1"]
    assert "only for mlx" in found.lost[0]


def test_newer_manifests_hide_older_ones_and_links_are_followed(store, tmp_path):
    old, new = store.layer("model", WEIGHTS), store.layer("model", WEIGHTS + b"2")
    store.add(f"{LIBRARY}/a/1", old)
    newer = Store(store.folder, "manifests-v2")
    link = newer.add(f"{LIBRARY}/a/1", new)
    blob = store.blob(link.read_bytes())
    link.unlink()
    link.symlink_to(store.path(blob))
    assert imported(tmp_path)[1].models["a:1"].path == store.path(new["digest"])


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([], "no weights here"),
        ([("model", b"GGUF1"), ("model", b"GGUF2")], "2 files"),
        ([("model", b"safetensors")], "is no GGUF file"),
    ],
)
def test_what_cannot_be_carried_over_is_left_out_and_told(layers, said, store, tmp_path):
    store.add(f"{LIBRARY}/bad/1", *(store.layer(kind, data) for kind, data in layers))
    store.add(f"{LIBRARY}/good/1", store.layer("model", WEIGHTS))
    found, config = imported(tmp_path)
    assert list(config.models) == ["good:1"]
    assert said in found.lost[0]
    assert found.lost[0].startswith("bad:1: ")


def test_missing_blobs_bad_digests_and_broken_manifests_are_told(store, tmp_path):
    layer = store.layer("model", WEIGHTS)
    store.add(f"{LIBRARY}/good/1", layer)
    store.add(f"{LIBRARY}/gone/1", {**layer, "digest": "sha256:" + "0" * 64})
    store.add(f"{LIBRARY}/odd/1", {**layer, "digest": "../../etc/passwd"})
    store.add(f"{LIBRARY}/torn/1").write_text("{")
    store.add(f"{LIBRARY}/list/1").write_text("[]")
    found, config = imported(tmp_path)
    assert list(config.models) == ["good:1"]
    told = "\n".join(found.lost)
    for part in ("ollama pull", "no digest", "1: is not JSON", "its manifest is no object"):
        assert part in told


def test_a_store_is_known_by_its_folders(store, tmp_path):
    assert is_store(tmp_path)
    assert is_store(tmp_path / "models")
    assert not is_store(tmp_path / "models/blobs")
    with pytest.raises(ConfigError, match="no model that can be carried over"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="no manifests and blobs"):
        read(tmp_path / "models/blobs")
