"""A TabbyAPI checkout as it lies on a user's disk, with the double in place of the program."""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path

from tests.support.tabby_shapes import VERSIONS

ROOT = Path(__file__).parent.parent.parent
ADMIN = "0123456789abcdef0123456789abcdef"
API = "fedcba9876543210fedcba9876543210"
CONFIG = """\
# Sample YAML file for configuration.
# Comment and uncomment values as needed.

# Options for networking
network:
  # The IP to host on (default: 127.0.0.1).
  host: 127.0.0.1

  # The port to host on (default: 5000).
  port: {port}
  disable_auth: false   # never on a LAN

  # Select API servers to enable (default: ["OAI"]).
  api_servers: ["OAI"]

# Options for model overrides and loading
model:
  # Directory to look for models (default: models).
  model_dir: models

  # An initial model to load.
  # REQUIRED: This must be filled out to load a model on startup.
  model_name:

  use_as_default: []
  max_seq_len:
  cache_mode: 'Q6'   # mine
  gpu_split:
    # GB
    - 20
    - 22.5
  # the end of the model

# Options for sampling
sampling:
    override_preset:
"""


def make_checkout(
    folder: Path, version: str = "e632af4", *, port: int = 5000, keys: bool = True, **behaviour: object
) -> Path:
    """Lays out `folder`: main.py, venv/bin/python, config.yml, backends, models/, and api_tokens.yml unless not `keys`.

    `behaviour` are fields of `tabby_engine.Behaviour`. What it did is in `notes(folder)`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(ROOT), sysconfig.get_path("purelib")]
    start = f"import sys\n\nsys.path += {paths!r}\n\nfrom tests.support.tabby_double import main\n\nmain()\n"
    (folder / "main.py").write_text(start)
    python = folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (folder / "config.yml").write_text(CONFIG.format(port=port))
    if keys:
        (folder / "api_tokens.yml").write_text(f'api_key: "{API}"\nadmin_key: "{ADMIN}"\n')
    for backend in ("exllamav2", "exllamav3") if VERSIONS[version].exl2 else ("exllamav3",):
        (folder / "backends" / backend).mkdir(parents=True)
        (folder / "backends" / backend / "model.py").write_text("")
    (folder / "models").mkdir()
    record = str(folder / "record.jsonl")
    (folder / "double.json").write_text(json.dumps({"version": version, "record": record, **behaviour}))
    return folder


def make_model(model_dir: Path, name: str, method: str | None = "exl3", **double: object) -> Path:
    """A model's folder; `double` are fields of `tabby_engine.Model`."""
    folder = model_dir / name
    folder.mkdir(parents=True)
    config: dict[str, object] = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 32768}
    if method is not None:
        config["quantization_config"] = {"quant_method": method, "bits": 4.0}
    (folder / "config.json").write_text(json.dumps({**config, "double": double}))
    return folder


def notes(checkout: Path) -> list[dict]:
    """What the double did so far."""
    record = checkout / "record.jsonl"
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
