"""Finding and reading the file, and that every fault is told with its line, key and remedy (spec C1)."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from roundhouse.config.load import find, load, parse
from roundhouse.errors import ConfigError


def faults(text, env=None, source=Path("/nowhere/x.yaml")):
    with pytest.raises(ConfigError) as error:
        parse(text, source, env or {"HOME": "/nowhere"})
    return error.value.message.replace("/nowhere/x.yaml:", "")


def read(text, folder=Path("/nowhere")):
    return parse(text, folder / "x.yaml", {"HOME": "/nowhere"})


MODEL = "models:\n  m:\n    path: /m.gguf\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("limits: {boddy: 1MiB}", "1: limits.boddy: unknown key; did you mean 'body'?"),
        ("modles: {}", "1: modles: unknown key; did you mean 'models'?"),
        (MODEL + "    ctx: 5", "4: models.m.ctx: unknown key; did you mean 'context'?"),
        (MODEL + "    id: x", "4: models.m.id: unknown key; "),
        ("warnings: []", "1: warnings: unknown key; known: listen, "),
        ("limits:\n  body: 64", "2: limits.body: 64 has no unit, so it is not a size; write for example 64GiB"),
        (MODEL + "    ttl: 30", "4: models.m.ttl: 30 has no unit, so it is not a duration; write for example 30s"),
        (MODEL + "    ttl: nevr", "4: models.m.ttl: 'nevr' is not a duration; write 10s, 5m or 250ms (or auto | never"),
        (MODEL + "    slots: true", "4: models.m.slots: true is not a whole number"),
        (MODEL + "    slots: 0", "4: models.m.slots: 0 is below 1; write 1 or more"),
        (MODEL + "    port: 99999", "4: models.m.port: 99999 is above 65535; write 65535 or less"),
        (MODEL + "    engine: lamacpp", "4: models.m.engine: 'lamacpp' is not one of llamacpp, sglang, tabbyapi, vllm, openai"),
        (MODEL + "    pinned: maybe", "4: models.m.pinned: 'maybe' is not true or false"),
        (MODEL + "    args: -x", "4: models.m.args: '-x' is not a list; write it as [one, two]"),
        (MODEL + "    args: [true]", "4: models.m.args[0]: true is not text; write it in quotes"),
        (MODEL + "    env: {A: 1, B: [x]}", "4: models.m.env.B: this is not text; write it in quotes"),
        (MODEL + "    status: off", "4: models.m.status: 'off' is not a mapping of keys"),
        (MODEL + "    aliases: [a, a]", "4: models.m.aliases: aliases are a list of different names"),
        (MODEL + "    memory: {gpu0: 4}", "4: models.m.memory: gpu0: 4 has no unit"),
        ("models: {m: {tabby: {dir: /t, model_dir: ~, model_name: x}}}", "1: models.m.tabby.model_dir: null is not a file or folder"),
        ("models: [a]", "1: models: is not a mapping; write each model as `id:`"),
        ("models:\n  m: /m.gguf", "2: models.m: is not a mapping of keys; write for example {path: /models/some.gguf}"),
        ("models:\n  m:\n    context: 5", "2: models.m: says nothing about what to run; add one of path, url, command, script"),
        (MODEL + "    url: http://x", "4: models.m.url: a model has exactly one of path, url; keep one"),
        ("models:\n  m:\n    url: http://x\n    service: a", "4: models.m.service: does not go with url; use path, script"),
        ("models:\n  m:\n    url: http://x\n    launcher: process", "4: models.m.launcher: process does not go with url"),
        (MODEL + "    launcher: attached", "4: models.m.launcher: attached means that others run it, but nothing says where"),
        (MODEL + "    service: a\n    launcher: process", "5: models.m.launcher: process does not go with `service:`"),
        ("models: {m: {url: localhost:80}}", "1: models.m.url: 'localhost:80' is no address of a server; write http://host:port/v1"),
        ("models: {m: {url: 'http://x:port/'}}", "1: models.m.url: 'http://x:port/' is no address of a server"),
        ("models: {m: {url: http://x, set: {temperature: 1}, tags: {a: 1}}}", "1: models.m.tags: a mapping is not a list"),
        ("limits: {body: .inf}", "1: limits.body: inf is not a size"),
        ("tls: {cert: {a: 1}, key: b}", "1: tls.cert: a mapping is not a file or folder"),
        ("keys: [{name: a, hash: 'sha256:', expires: 5}]", "1: keys[0].expires: 5 is not a date"),
        ("models: {m: {command: 'a \"b'}}", "1: models.m.command: is not a command line (no closing quotation)"),
        ("models: {m: {command: ''}}", "1: models.m.command: is empty; write a command"),
        ("models: {m: {command: a, health: ok}}", "1: models.m.health: 'ok' is no path; begin with a slash"),
        ("models: {m: {script: a.sh}}", "1: models.m: can't tell which engine the script starts; add `engine:`"),
        ("models: {m: {path: /no/such/folder}}", "1: models.m.path: there is nothing at /no/such/folder"),
        ("models: {m: {any_of: []}}", "1: models.m.any_of: names no model; write at least one id"),
        (MODEL + "  n: {any_of: [mm]}", "4: models.n.any_of[0]: there is no model 'mm'; did you mean 'm'?"),
        (MODEL + "  n: {any_of: [n]}", "4: models.n.any_of[0]: 'n' is an any_of itself"),
        (MODEL + "  n: {any_of: [m], engine: vllm}", "4: models.n.engine: any_of names other models"),
        (MODEL + "  n: {any_of: [m], launcher: process}", "4: models.n.launcher: any_of names other models"),
        (MODEL + "    aliases: [m]", "4: models.m.aliases: 'm' is the model's own id"),
        (MODEL + "    aliases: [n]\n  n: {url: http://x}", "4: models.m.aliases: 'n' is the id of another model"),
        (MODEL + "    aliases: [a]\n  n: {url: http://x, aliases: {a: {}}}", "5: models.n.aliases: 'a' is an alias of 'm' already"),
        ("models: {'': {url: http://x}}", "1: models.: '' is no usable name"),
        ("devices: {gpu0: 8GiB}\n" + MODEL + "    memory: 9GiB", "5: models.m.memory: needs 9 GiB, but gpu0 has 8 GiB; correct"),
        ("devices: {gpu0: 8GiB}\n" + MODEL + "    memory: {gpu1: 1GiB}", "5: models.m.memory.gpu1: there is no device 'gpu1'; did you mean 'gpu0'?"),
        ("devices: {gpu0: 8GiB}\n" + MODEL + "    devices: [cpu]", "5: models.m.devices[0]: there is no device 'cpu'"),
        ("devices: {a: 1GiB, b: 9GiB}\n" + MODEL + "    memory: 2GiB\n    devices: [a]", "5: models.m.memory: needs 2 GiB, but a has 1 GiB"),
        ("listen: 0.0.0.0:8002", "1: listen[0]: 0.0.0.0:8002 can be reached from other machines and no keys are set; listen on 127.0.0.1, add `keys:`, or write `allow_anonymous: true`"),
        ("listen: [127.0.0.1:1, ':8002']", "1: listen[1]: :8002 can be reached"),
        ("listen: 8002", "1: listen: 8002 is not a list"),
        ("listen: localhost", "1: listen[0]: 'localhost' is not an address; write host:port"),
        ("tls: {cert: a}", "1: tls.key: the key 'key' is missing; add it"),
        ("keys:\n  - {name: a, hash: x}", "2: keys[0].hash: does not begin with 'sha256:'"),
        ("keys:\n  - {name: a, hash: 'sha256:'}\n  - {name: a, hash: 'sha256:'}", "3: keys[1].name: two keys are named 'a'; rename one"),
        ("keys: [{name: a, hash: 'sha256:', expires: soon}]", "1: keys[0].expires: 'soon' is not a date"),
        ("keys: [{name: a, hash: 'sha256:', rate: {requests: 60}}]", "1: keys[0].rate.requests: 60 is not a rate; write a number per time"),
        ("scheduling: {task_model: x}", "1: scheduling.task_model: there is no model 'x'"),
        ("scheduling: {max_wait: 5}", "1: scheduling.max_wait: 5 has no unit"),
        ("a: [", "1: not YAML"),
        ("", "1: the file is empty"),
        (MODEL + "    path: /n.gguf", "4: models.m.path: written twice (first on line 3); remove one"),
        (MODEL + "    slots: ${NOPE}", "4: models.m.slots: the environment variable NOPE is not set"),
        (MODEL + "    api_key: ${NOPE}", "4: models.m.api_key: the environment variable NOPE is not set"),
    ],
)  # fmt: skip
def test_c1_fault_is_told_with_line_key_and_remedy(text, expected):
    said = faults(text)
    assert said.startswith(expected)
    assert len(said.splitlines()) == 1


def test_c1_all_faults_are_told_at_once_in_the_order_of_the_file():
    said = faults(
        "limits: {body: 5}\n"
        "models:\n"
        "  a: {path: /a.gguf, slots: none}\n"
        "  b: {path: /b.gguf, url: http://x}\n"
        "  c: {any_of: [zzz], nam: x}\n"
        "  d: {url: http://x, aliases: [a]}\n"
        "  d: {}\n"
        "listn: 5\n"
        "state_dir: ${GONE}\n"
    )
    assert [line.split(": ")[:2] for line in said.splitlines()] == [
        ["1", "limits.body"], ["3", "models.a.slots"], ["4", "models.b.url"], ["5", "models.c.nam"],
        ["6", "models.d.aliases"], ["7", "models.d"], ["8", "listn"], ["9", "state_dir"],
    ]  # fmt: skip


def test_f4_secrets_are_not_quoted_in_faults():
    said = faults("models:\n  m: {url: http://x, api_key: [s3cret], env: {TOKEN: [s3cret]}}\n")
    assert "s3cret" not in said
    assert len(said.splitlines()) == 2


def test_a_fault_inside_a_merged_mapping_is_told_where_it_is_written():
    text = "models:\n  a: &a\n    path: /a.gguf\n    ttl: 5\n  b:\n    <<: *a\n    path: /b.gguf\n"
    assert [line.split(": ")[:2] for line in faults(text).splitlines()] == [
        ["4", "models.a.ttl"],
        ["4", "models.b.ttl"],
    ]


def test_no_declared_devices_no_opinion_on_memory():
    assert read(MODEL + "    memory: 900TiB\n    devices: [gpu7]").models["m"].devices == ("gpu7",)


@pytest.mark.parametrize(
    "text", ["listen: 0.0.0.0:1\nallow_anonymous: true", "listen: 0.0.0.0:1\nkeys: [{name: a, hash: 'sha256:'}]"]
)
def test_f1_other_addresses_with_keys_or_said_aloud(text):
    assert read(text).listen == ("0.0.0.0:1",)


def test_c1_nearly_everything_has_a_default():
    config = read("models: {}")
    assert config.models == {}
    assert config.state_dir == Path("/nowhere/.local/state/roundhouse")
    assert config.warnings == ()


def test_c1_variables_are_filled_in_and_ours_are_left(tmp_path):
    text = "models:\n  m: {command: 'x ${WHO:-you} $$1', slots: '${N}'}\n  n: {command: 'x ${PORT} $$1'}\n"
    config = parse(text, tmp_path / "x.yaml", {"N": "3"})
    assert config.models["m"].command == "x you $1"
    assert config.models["m"].slots == 3
    assert config.models["n"].command == "x ${PORT} $$1"


def test_odd_keys_are_warnings():
    config = read("keys:\n  - {name: a, hash: 'sha256:12', models: [nope, 'l*']}")
    assert any("'a' is not sha256: and 64" in text for text in config.warnings)
    assert any("may use 'nope', which is no model" in text for text in config.warnings)
    assert len(config.warnings) == 2


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("'2027-01-31'", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("'2027-01-31T12:00:00+02:00'", datetime(2027, 1, 31, 10, tzinfo=UTC)),
        ("null", None),
    ],
)
def test_keys_end_at_a_moment_that_says_its_zone(written, moment):
    assert read(f"keys: [{{name: a, hash: 'sha256:', expires: {written}}}]").keys[0].expires == moment


def test_source_is_kept_and_a_byte_order_mark_is_none_of_our_business(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("﻿models: {}", encoding="utf-8")
    assert load(file, {}).source == file


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a: 1\nb: \xff\n", ":2: is not UTF-8 (byte 0xff)"), (b"#" * (4 * 2**20 + 1), "is larger than 4 MiB")],
)
def test_c1_files_that_are_no_configuration(tmp_path, content, said):
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load(file, {})
    assert said in error.value.message


def test_a_file_that_is_not_there_or_a_folder(tmp_path):
    for path in (tmp_path, tmp_path / "no.yaml"):
        with pytest.raises(ConfigError, match="can't be read"):
            load(path, {})


def test_find_takes_the_first_place_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = {"HOME": str(tmp_path / "home"), "ROUNDHOUSE_CONFIG": str(tmp_path / "env.yaml")}
    without = {"HOME": env["HOME"]}
    user = tmp_path / "home/.config/roundhouse/config.yaml"
    user.parent.mkdir(parents=True)
    user.touch()
    assert find(None, without) == user
    Path("roundhouse.yaml").touch()
    assert find(None, without) == Path("roundhouse.yaml")
    (tmp_path / "env.yaml").touch()
    assert find(None, env) == tmp_path / "env.yaml"
    (tmp_path / "mine.yaml").touch()
    assert find(tmp_path / "mine.yaml", env) == tmp_path / "mine.yaml"


def test_find_nothing_names_every_place_and_init(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        find(None, {"HOME": str(tmp_path)})
    for place in ("--config", "$ROUNDHOUSE_CONFIG", "./roundhouse.yaml", f"{tmp_path}/.config/roundhouse/config.yaml",
                  "/etc/roundhouse/config.yaml", "roundhouse init"):  # fmt: skip
        assert place in error.value.message


def test_find_never_passes_over_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("roundhouse.yaml").touch()
    with pytest.raises(ConfigError, match="--config"):
        find(tmp_path / "gone.yaml", {})
    with pytest.raises(ConfigError, match=r"ROUNDHOUSE_CONFIG"):
        find(None, {"ROUNDHOUSE_CONFIG": str(tmp_path / "gone.yaml")})
