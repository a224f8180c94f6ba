import re
from pathlib import Path

from roundhouse.config import starter
from roundhouse.config.load import parse


def test_the_starter_file_loads_as_it_is():
    config = parse(starter.text(), Path("/etc/x.yaml"), {"HOME": "/nowhere"})
    assert config.models == {}
    assert config.models_dir == (Path("/nowhere/models"),)


def test_the_starter_file_loads_with_every_comment_taken_away():
    """Prose begins with '# ' and one blank, a setting with '#' and none or its indentation."""
    lines = starter.text().replace("models: {}", "models:").splitlines()
    settings = [line.removeprefix("#") for line in lines if not re.match(r"# \S", line)]
    config = parse("\n".join(settings), Path("/etc/x.yaml"), {"HOME": "/nowhere", "OTHER_SERVER_KEY": "k"})
    assert list(config.models) == ["my-model", "my-server", "elsewhere"]
    assert config.keys[0].admin
    assert set(config.devices) == {"gpu0", "ram"}


def test_the_starter_file_is_short():
    assert 30 <= len(starter.text().splitlines()) <= 50
