"""Which engine a path asks for, and what a folder of models holds (spec C1). Files are empty: nothing opens them."""

import errno
import json
from pathlib import Path

import pytest

from roundhouse.app.specs import look
from roundhouse.config.discover import UndetectedError, by_name, detect, parts_of, projector_for, scan
from roundhouse.config.load import parse


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def model_folder(folder: Path, config: object, *names: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    files(folder, *names)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(model.name for model in scan(folder).models)


@pytest.mark.parametrize(
    ("method", "engine"),
    [("awq", "sglang"), ("gptq", "sglang"), ("fp8", "sglang"), ("compressed-tensors", "sglang"), ("exl2", "tabbyapi"),
     ("exl3", "tabbyapi"), ("EXL3", "tabbyapi"), (None, "vllm")],
)  # fmt: skip
def test_c1_folder_is_detected_by_its_quantisation(tmp_path, method, engine):
    config = {"quantization_config": {"quant_method": method}} if method else {}
    found = detect(model_folder(tmp_path / "m", config, "model-00001-of-00001.safetensors"))
    assert (found.name, found.engine, found.path) == ("m", engine, tmp_path / "m")


def test_c1_gguf_is_detected_by_name_even_if_missing():
    found = detect(Path("/no/such/Model.Q4_K.GGUF"))
    assert (found.name, found.engine) == ("Model.Q4_K", "llamacpp")


def test_c1_a_folder_with_one_gguf_stands_for_it(tmp_path):
    files(tmp_path / "m", "a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "mmproj-f16.gguf", "imatrix.gguf")
    found = detect(tmp_path / "m")
    assert (found.path.name, found.engine) == ("a-00001-of-00002.gguf", "llamacpp")
    assert found.mmproj is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "holds nothing, but no GGUF and no safetensors"),
        (["pytorch_model.bin", "tokenizer.json"], "holds pytorch_model.bin, tokenizer.json, but"),
        ([f"f{i}" for i in range(9)], "f5, ..., but"),
        (["a.gguf", "b.gguf"], r"holds several GGUF models \(a.gguf, b.gguf\)"),
    ],
)
def test_c1_what_is_not_detected_says_what_was_seen(tmp_path, content, said):
    files(tmp_path, *content)
    with pytest.raises(UndetectedError, match=said):
        detect(tmp_path)


@pytest.mark.parametrize("config", ["{", "[" * 100_000, '{"quantization_config": '])
def test_a_broken_config_json_is_told(tmp_path, config):
    with pytest.raises(UndetectedError, match=r"config.json can't be read"):
        detect(model_folder(tmp_path / "m", config))


@pytest.mark.parametrize("config", [[], {"quantization_config": 5}, {"quantization_config": {"quant_method": 5}}])
def test_an_odd_config_json_is_as_good_as_none(tmp_path, config):
    assert detect(model_folder(tmp_path / "m", config, "model.safetensors")).engine == "vllm"


def test_neither_file_nor_folder(tmp_path):
    (tmp_path / "x.bin").touch()
    with pytest.raises(UndetectedError, match=r"no \.gguf"):
        detect(tmp_path / "x.bin")
    with pytest.raises(UndetectedError, match="there is nothing at"):
        detect(tmp_path / "gone")


def test_c1_models_dir_lists_every_model_once(tmp_path):
    files(tmp_path, "a.Q4_0.gguf", "deep/er/b.gguf", "big/c-00001-of-00002.gguf", "big/c-00002-of-00002.gguf", "notes.txt",
          ".hidden/d.gguf", "a-imatrix.gguf", "imatrix.dat", "imatrix_x.gguf", "draft-a.gguf", "a-draft-Q4_0.gguf",
          "mmproj-a.gguf", "a.mmproj-f16.gguf")  # fmt: skip
    model_folder(
        tmp_path / "awq", {"quantization_config": {"quant_method": "awq"}}, "model.safetensors", "inner/x.gguf"
    )
    assert names(tmp_path) == ["a.Q4_0", "awq", "b", "c"]
    assert scan(tmp_path).warnings == ()


def test_names_that_only_resemble_chores_are_models(tmp_path):
    files(tmp_path, "drafty.gguf", "imatrixed-not.gguf.gguf", "model-imatrix-Q4_K.gguf", "overdraft.gguf")
    assert names(tmp_path) == ["drafty", "model-imatrix-Q4_K", "overdraft"]


def test_c1_a_split_model_with_missing_parts_is_told_and_not_listed(tmp_path):
    files(tmp_path, "c-00002-of-00003.gguf")
    result = scan(tmp_path)
    assert result.models == ()
    assert "c-00001-of-00003.gguf, c-00003-of-00003.gguf missing" in result.warnings[0]


def test_c1_a_folder_that_is_no_model_is_told(tmp_path):
    model_folder(tmp_path / "m", {}, "pytorch_model.bin")
    result = scan(tmp_path)
    assert result.models == ()
    assert result.warnings[0].startswith("models_dir: m is not listed: ")


def test_c1_no_models_dir_is_a_warning(tmp_path):
    result = scan(tmp_path / "gone")
    assert result.models == ()
    assert result.warnings == (f"models_dir: there is no folder {tmp_path / 'gone'}; create it or correct the path",)


def test_c1_a_collision_names_both(tmp_path):
    files(tmp_path, "a/m.gguf", "b/m.gguf", "c/n.gguf")
    models, clashes = by_name(scan(tmp_path).models)
    assert sorted(models) == ["m", "n"]
    assert len(clashes) == 1
    assert str(tmp_path / "a/m.gguf") in clashes[0]
    assert str(tmp_path / "b/m.gguf") in clashes[0]


def test_links_are_followed_and_loops_end(tmp_path):
    files(tmp_path, "real/m.gguf")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/link").symlink_to(tmp_path / "real")
    (tmp_path / "models/loop").symlink_to(tmp_path / "models")
    (tmp_path / "models/dangling.gguf").symlink_to(tmp_path / "gone.gguf")
    files(tmp_path, "models/top.gguf")
    found = scan(tmp_path / "models").models
    assert [model.path.relative_to(tmp_path) for model in found] == [
        Path("models/top.gguf"),
        Path("models/link/m.gguf"),
    ]


@pytest.mark.parametrize(
    ("projectors", "model", "chosen"),
    [
        (["mmproj-F16.gguf"], "gemma-Q4.gguf", "mmproj-F16.gguf"),
        (["mmproj-model-f16.gguf"], "gemma-Q4.gguf", "mmproj-model-f16.gguf"),
        (["mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf"], "gemma-Q4.gguf", "mmproj-BF16.gguf"),
        (["mmproj-gemma-f16.gguf", "mmproj-qwen-f16.gguf"], "qwen-Q4.gguf", "mmproj-qwen-f16.gguf"),
        (["mmproj-gemma-f16.gguf"], "qwen-Q4.gguf", "mmproj-gemma-f16.gguf"),
        ([], "qwen-Q4.gguf", None),
    ],
)
def test_c1_projectors_are_paired(tmp_path, projectors, model, chosen):
    files(tmp_path, model, *projectors)
    found = projector_for(tmp_path / model)
    assert (found.name if found else None) == chosen


def test_c1_a_projector_that_names_one_of_several_models_goes_with_that_one_alone(tmp_path):
    files(tmp_path, "gemma-Q4.gguf", "qwen-Q4.gguf", "mmproj-gemma-f16.gguf")
    assert projector_for(tmp_path / "qwen-Q4.gguf") is None
    assert projector_for(tmp_path / "gemma-Q4.gguf") == tmp_path / "mmproj-gemma-f16.gguf"


def test_parts_of_a_split_model_are_told_from_any_of_them():
    first = [f"/x/a-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert [str(part) for part in parts_of(Path("/x/a-00002-of-00003.gguf"))] == first
    assert parts_of(Path("/x/a.gguf")) == (Path("/x/a.gguf"),)


def closed(monkeypatch, folder):
    """Has a folder be one that this user may not enter, as no folder is to root."""
    allowed = Path.stat

    def stat(path, **more):
        if path != folder and path.is_relative_to(folder):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return allowed(path, **more)

    monkeypatch.setattr(Path, "stat", stat)


def test_what_this_user_may_not_look_at_is_told_and_raises_nothing(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    closed(monkeypatch, tmp_path / "closed")
    with pytest.raises(UndetectedError, match=r"closed/model can't be read \(permission denied\)"):
        detect(tmp_path / "closed/model")
    assert scan(tmp_path / "closed/models").warnings == (
        f"models_dir: {tmp_path}/closed/models can't be read (permission denied); its models are not listed",
    )
    text = f"models_dir: {tmp_path}/closed/models\nmodels:\n  a: {{path: {tmp_path}/closed/a.gguf}}\n"
    config = parse(text, tmp_path / "roundhouse.yaml", {"HOME": str(tmp_path)})
    assert any("closed/a.gguf can't be read (permission denied)" in text for text in config.warnings)
    looked = look(config.models["a"])
    assert looked.problem == f"{tmp_path}/closed/a.gguf can't be read (permission denied)"
