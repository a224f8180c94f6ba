import hashlib

import pytest

from roundhouse.config.importers.llama_swap import NOT_CARRIED, read
from roundhouse.config.importers.writing import text
from roundhouse.errors import ConfigError
from tests.support.import_sources import capture, imported

ENV = {"SWAP_KEY": "sk-second", "HOME": "/none"}


@pytest.fixture
def whole(tmp_path):
    return imported(capture("llama_swap", tmp_path) / "config.yaml", ENV)


@pytest.fixture
def swap(tmp_path):
    """Imports the text of a llama-swap configuration."""

    def made(written, env=None):
        source = tmp_path / "config.yaml"
        source.write_text(written)
        return imported(source, env)

    return made


def test_c7_every_model_peer_and_selector_of_a_llama_swap_file_is_there(whole):
    _, config = whole
    assert list(config.models) == [
        *("llama", "embedder", "own-build", "docker-llama", "vllm", "elsewhere"),
        *("other-swap/model_a", "other-swap/llama", "router/meta/llama-8b", "any-chat"),
    ]
    assert config.models["any-chat"].any_of == ("llama", "vllm")


def test_peers_are_addresses_with_their_keys_left_in_the_environment(whole):
    found, config = whole
    peer = config.models["router/meta/llama-8b"]
    assert (peer.url, peer.served_name) == ("https://example.org/api/v1", "meta/llama-8b")
    assert (peer.strip, peer.set) == (("top_k",), {"provider": {"data_collection": "deny"}})
    assert list(peer.aliases) == ["meta/llama-8b"]
    assert found.variables == ("ENGINE_KEY", "PEER_KEY")
    assert 'api_key: "${PEER_KEY}"' in text(found)
    # A model of the file has that name already.
    assert config.models["other-swap/llama"].aliases == {}


def test_a_key_written_out_makes_the_file_secret(swap):
    found, config = swap("peers: {p: {proxy: 'http://x', apiKey: sk-1, models: [m]}}\n")
    assert found.secret
    assert config.models["p/m"].api_key.get_secret_value() == "sk-1"
    assert not swap("peers: {p: {proxy: 'http://x', apiKey: '${env.K}', models: [m]}}\n")[0].secret


def test_api_keys_are_hashed_and_those_of_the_environment_looked_up(whole):
    found, config = whole
    assert [key.hash for key in config.keys] == [
        "sha256:" + hashlib.sha256(key).hexdigest() for key in (b"sk-first-of-two", b"sk-second")
    ]
    assert all(key.manage and not key.admin for key in config.keys)
    assert found.secret
    assert "sk-first-of-two" not in text(found) + repr(found.all_lost())


def test_an_api_key_that_is_not_in_the_environment_is_told(swap):
    found, config = swap("apiKeys: ['${env.NONE}']\nmodels: {a: {cmd: 'x ${PORT}'}}\n")
    assert config.keys == ()
    assert "environment variable NONE" in found.lost[0]


def test_preloaded_pinned_and_first_models(whole):
    found, config = whole
    assert [name for name, model in config.models.items() if model.preload] == ["llama"]
    assert [name for name, model in config.models.items() if model.pinned] == ["embedder"]
    assert config.models["llama"].priority == 5
    assert any("no model 'no-such'" in said for said in found.lost)


def test_settings_of_the_whole(whole):
    _, config = whole
    assert config.engines.llamacpp.binary == "/opt/llama.cpp/llama-server"
    assert config.defaults.ttl is None
    assert config.defaults.load_timeout.total == 1800


@pytest.mark.parametrize(
    ("written", "key", "value"),
    [
        ("globalTTL: 90", "ttl", 90),
        ("healthCheckTimeout: 3600", "total", 3600),
        ("sendLoadingState: false", "channel", "off"),
        ("sendLoadingState: true", "channel", "auto"),
    ],
)
def test_other_settings(written, key, value, swap):
    _, config = swap(f"{written}\nmodels: {{a: {{cmd: 'x ${{PORT}}'}}}}\n")
    seen = {"ttl": config.defaults.ttl, "total": config.defaults.load_timeout.total, "channel": config.status.channel}
    assert seen[key] == value


def test_every_key_without_a_like_is_told(swap):
    keys = "".join(f"{key}: {{}}\n" for key in NOT_CARRIED)
    found, _ = swap(f"{keys}surprise: 1\nmodels: {{a: {{cmd: 'x ${{PORT}}'}}}}\n")
    assert [said.split(":")[0] for said in found.lost] == [*NOT_CARRIED, "surprise is not known here"]


def test_groups_matrix_and_selectors_in_their_newer_places(swap):
    found, config = swap(
        """
models:
  a: {cmd: "x ${PORT}"}
  b: {cmd: "x ${PORT}"}
routing:
  router: {settings: {groups: {g: {members: [a], persistent: true}}, matrix: {sets: {}}}}
selectors:
  s: {strategy: pin, targets: [b, a], name: S, metadata: {x: 1}}
  t: {strategy: balance, targets: [a, b]}
"""
    )
    assert config.models["a"].pinned
    assert (config.models["s"].any_of, config.models["s"].name) == (("b",), "S")
    told = "\n".join(found.all_lost())
    for part in ("settings.groups.g: its members are pinned", "settings.matrix", "s: metadata", "t: balance"):
        assert part in told


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("models: {}", r"config\.yaml:1: models: has no models"),
        ("models: [a]", r"config\.yaml:1: models: is not a mapping"),
        ("models:\n  a: 1", r"config\.yaml:2: models\.a: is not a mapping"),
        ("peers:\n  p: {models: [m]}", r"config\.yaml:2: peers\.p: has no proxy"),
        ("peers:\n  p: {proxy: '${none}', models: [m]}", r"config\.yaml:2: peers\.p: there is no macro"),
        ("- a", r"config\.yaml:1: is not a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(written, said, tmp_path):
    source = tmp_path / "config.yaml"
    source.write_text(written)
    with pytest.raises(ConfigError, match=said):
        read(source, {})
