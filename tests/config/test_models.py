"""The contract as a whole: the example file parses, every key of it has its meaning, and nothing can be changed after."""

import re
import typing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from roundhouse.config.load import load, parse
from roundhouse.config.models import Config, LoadTimeout, ModelConfig
from roundhouse.config.units import Rate
from roundhouse.config.wording import keys_of

EXAMPLE = Path(__file__).with_name("example.yaml")
ENV = {"HOME": "/home/me", "CLOUD_KEY": "top-secret"}
GIB = 1024**3


@pytest.fixture(scope="module")
def config() -> Config:
    return load(EXAMPLE, ENV)


def test_c1_example_top(config):
    assert config.listen == ("127.0.0.1:8002", "[::1]:8002")
    assert (config.limits.body, config.limits.headers, config.limits.header_timeout) == (64 * 2**20, 64 * 2**10, 10.0)
    assert (config.shutdown.engines, config.shutdown.drain) == ("stop", 30.0)
    assert (config.status.channel, config.status.every, config.performance) == ("auto", 5.0, "auto")
    assert config.state_dir == Path("/home/me/.local/state/roundhouse")
    assert config.devices == {"gpu0": 96 * GIB, "ram": 64 * GIB}
    assert (config.scheduling.max_wait, config.scheduling.linger, config.scheduling.drain_timeout) == (
        "auto",
        "auto",
        None,
    )
    assert (config.scheduling.queue.limit, config.scheduling.queue.timeout) == (512, 600.0)
    assert (config.sessions.store, config.sessions.budget) == ("disk", 20 * GIB)
    assert config.defaults.load_timeout == LoadTimeout(expected=None, stalled=120.0, total=1800.0)
    assert config.models_dir == (Path("/home/me/models"),)


def test_d4_no_wait_and_a_wait_without_end_can_be_written(tmp_path):
    # The ends of the scale: strictly in the order of arrival, and whoever is loaded goes on. Benchmarks compare with both.
    for written, seconds in (("0s", 0.0), ("1000d", 86_400_000.0)):
        text = f"scheduling: {{max_wait: {written}, linger: off}}\nmodels: {{m: {{url: 'http://127.0.0.1:9'}}}}\n"
        scheduling = parse(text, tmp_path / "r.yaml", ENV).scheduling
        assert (scheduling.max_wait, scheduling.linger) == (seconds, "off")


def test_c1_example_models_are_resolved(config):
    what = {model.id: (model.engine, model.launcher) for model in config.models.values()}
    assert what == {
        "llama-3.3-70b-awq": ("sglang", "process"),
        "monstral-123b-exl2-4bpw": ("tabbyapi", "systemd"),
        "behemoth-r1-123b-iq4nl": ("llamacpp", "systemd"),
        "smol": ("llamacpp", "process"),
        "anything": ("openai", "process"),
        "cloud": ("openai", "attached"),
        "best-coder": (None, None),
    }


def test_c1_example_model_keys(config):
    awq, smol, anything = (config.models[name] for name in ("llama-3.3-70b-awq", "smol", "anything"))
    assert awq.args == ("--sleep-on-idle", "--mem-fraction-static", "0.85")
    assert awq.aliases == {"llama-70b": {}, "gpt-4o": {}}
    assert (awq.ttl, awq.port, smol.ttl) == (1800.0, 30000, "auto")
    assert (smol.context, smol.slots, smol.pinned, smol.served_name) == (8192, 2, True, "smol")
    assert (anything.name, anything.command, anything.health) == (
        "Anything",
        "/opt/my-engine --port ${PORT}",
        "/health",
    )
    assert (anything.memory, anything.env, anything.min_resident) == ({"": 4 * GIB}, {"CUDA_VISIBLE_DEVICES": "0"}, 0.0)
    assert anything.kind == "auto"
    tabby = config.models["monstral-123b-exl2-4bpw"].tabby
    assert tabby is not None
    assert (tabby.mode, tabby.max_seq_len, tabby.cache_mode) == ("api", 32768, "Q8")
    best = config.models["best-coder"]
    assert (best.any_of, best.set, best.strip) == (
        ("llama-3.3-70b-awq", "behemoth-r1-123b-iq4nl"), {"temperature": 0.2}, ("top_k",),
    )  # fmt: skip


def test_c1_example_keys(config):
    kid = config.keys[2]
    assert (kid.rate.requests, kid.rate.tokens) == (Rate(60, 60.0), Rate(10**6, 86400.0))
    assert (kid.expires, kid.status, kid.apis) == (datetime(2027, 1, 1, tzinfo=UTC), "auto", ("openai",))
    assert config.keys[1].admin
    assert config.keys[0].models == ("*",)


def test_f4_engine_keys_are_never_printed(config):
    key = config.models["cloud"].api_key
    assert key is not None
    assert key.get_secret_value() == "top-secret"
    assert "top-secret" not in f"{config!r}{config}{config.model_dump_json()}{config.model_dump()}"


def test_c1_config_is_frozen(config):
    with pytest.raises(ValidationError):
        config.performance = "off"
    with pytest.raises(ValidationError):
        config.models["smol"].pinned = False


def sections(kind, seen):
    for part in (kind, *typing.get_args(kind)):
        if isinstance(part, type) and issubclass(part, BaseModel) and part not in seen:
            seen.append(part)
            for field in part.model_fields.values():
                sections(field.annotation, seen)
        elif part is not kind:
            sections(part, seen)
    return seen


def test_every_key_has_a_description_for_the_reference_page():
    missing = [
        f"{section.__name__}.{name}"
        for section in sections(Config, [])
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert missing == []


def test_every_key_of_the_contract_is_a_key_and_the_example_shows_every_key():
    """The example is documentation: a key that it does not show nobody finds. Some came after it was written."""
    text = EXAMPLE.read_text()
    unseen = {
        name
        for section in sections(Config, [])
        for name in keys_of(section)
        if not re.search(rf"(?<![\w-]){name}:|\b{name}\b", text)
    }
    assert unseen == {"kind", "options", "captures", "keep"}


def test_models_built_in_code_take_seconds_and_bytes():
    model = ModelConfig(id="x", ttl=5, min_resident=2, memory={"gpu0": 1024})
    assert (model.ttl, model.min_resident, model.memory) == (5.0, 2.0, {"gpu0": 1024})


def test_a_resolved_configuration_can_be_dumped_and_read_back_as_json(config, recwarn):
    assert config.model_dump(mode="json")["models"]["smol"]["path"] == "/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert not recwarn.list
