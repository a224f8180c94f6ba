import pytest

from roundhouse.config.importers.files import LARGEST, read_json, read_text, read_yaml
from roundhouse.errors import ConfigError


@pytest.fixture
def file(tmp_path):
    def made(data):
        path = tmp_path / "source"
        path.write_bytes(data)
        return path

    return made


@pytest.mark.parametrize(
    ("read", "data", "said"),
    [
        (read_text, b"a\n\xff", r"source:2: is not UTF-8 \(byte 0xff\)"),
        (read_text, b"x" * (LARGEST + 1), "larger than 4 MiB"),
        (read_json, b'{"a": 1,\n}', "source:2: is not JSON"),
        (read_json, b'{"a": 1, "a": 2}', "'a' is written twice"),
        (read_json, b"[" * 200_000, "nested too deeply"),
        (read_yaml, b"a: 1\nb: [\n", "source:3: is not YAML"),
        (read_yaml, b"a: 1\na: 2\n", "source:2: is not YAML"),
        (read_yaml, b"- a\n", "source:1: is not a mapping"),
        (read_yaml, b"", "source:1: is not a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(read, data, said, file):
    with pytest.raises(ConfigError, match=said):
        read(file(data))


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(ConfigError, match="can't be read"):
        read_text(tmp_path / "none")


def test_a_mapping_knows_where_its_keys_stand(file):
    found = read_yaml(file(b"a: &x\n  b: 1\nc:\n  <<: *x\n  d: [yes, off, 1.5, null]\n"))
    assert found.data == {"a": {"b": 1}, "c": {"b": 1, "d": ["yes", "off", 1.5, None]}}
    assert found.where("a", "b").endswith("source:2")
    assert found.where("c", "d").endswith("source:5")
    assert found.where("c", "b").endswith("source:3")
    assert found.mapping("c", "none") == {}
    with pytest.raises(ConfigError, match=r"source:2: a\.b: is not a mapping"):
        found.mapping("a", "b")
