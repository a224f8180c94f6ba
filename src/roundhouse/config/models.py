"""What a configuration file may say: one frozen class per section, its attributes named as the keys.

A loaded `Config` is resolved: defaults applied to every model, engines detected, paths absolute, figures in seconds and
bytes. How that comes about is `load`'s business; nothing here reads a file. The docstrings become the reference page.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr
from pydantic.json_schema import SkipJsonSchema

from roundhouse.config.captures import Captures
from roundhouse.config.fields import (
    Addresses,
    Aliases,
    Duration,
    DurationOrAuto,
    DurationOrNull,
    DurationOrUnknown,
    Folders,
    Linger,
    Memory,
    Moment,
    RateOrNull,
    Size,
    Ttl,
    Whole,
    Word,
)
from roundhouse.config.section import Section

EngineName = Literal["llamacpp", "sglang", "tabbyapi", "vllm", "openai"]
LauncherName = Literal["process", "systemd", "attached"]
Channel = Literal["auto", "event", "content", "reasoning", "comment", "off"]
Profile = Literal["fast-start", "balanced", "fast-answers"]
Api = Literal["openai", "anthropic", "ollama"]
Port = Annotated[Whole, Field(ge=1, le=65535)]
Count = Annotated[Whole, Field(ge=1)]


class Tls(Section):
    """Certificate files for HTTPS."""

    cert: Path
    """PEM file with the certificate chain."""
    key: Path
    """PEM file with the private key."""


class Cors(Section):
    """Which web pages may call the API from a browser."""

    origins: tuple[str, ...] = ()
    """Origins such as `https://chat.example.org`; none by default."""


class Limits(Section):
    """Bounds on what a client may send."""

    body: Size = 64 * 1024**2
    """Largest request body."""
    headers: Size = 64 * 1024
    """Largest sum of request headers."""
    header_timeout: Duration = 10.0
    """Time a client has for sending its headers."""
    body_timeout: Duration = 60.0
    """Longest silence in the middle of a request body."""


class Shutdown(Section):
    """What happens when Roundhouse ends."""

    engines: Literal["stop", "leave"] = "stop"
    """Whether engines end with it, or stay for the next start."""
    drain: Duration = 30.0
    """How long running answers may take before they are cut."""


class Reload(Section):
    """How changes of the configuration file are noticed."""

    watch: bool = True
    """Whether the file is watched and applied when it changes."""


class Program(Section):
    """Where llama.cpp's server is."""

    binary: str | None = None
    """Program to run; null: found on PATH, then in installed packages."""


class Interpreter(Section):
    """Where a Python engine is installed."""

    python: str | None = None
    """Python interpreter that has the engine; null: that of its program on PATH, then the one Roundhouse runs on."""


class Checkout(Section):
    """Where TabbyAPI is."""

    dir: Path | None = None
    """Its checkout, for models that are named by `path` alone or found in `models_dir`."""
    python: str | None = None
    """Python interpreter that has what it needs; null: `venv/bin/python` in the checkout, then `python3` on PATH."""


class Engines(Section):
    """The installed engines."""

    llamacpp: Program = Program()
    """llama.cpp."""
    sglang: Interpreter = Interpreter()
    """SGLang."""
    vllm: Interpreter = Interpreter()
    """vLLM."""
    tabbyapi: Checkout = Checkout()
    """TabbyAPI."""


class Status(Section):
    """How a streaming client is told what it waits for."""

    channel: Channel = "auto"
    """Where status goes: `auto` is `event`, plus `content` for terminals."""
    every: Duration = 5.0
    """Time between two status lines."""


class ModelStatus(Section):
    """How clients of one model are told what they wait for."""

    channel: Channel = "auto"
    """Where status goes."""


class Queue(Section):
    """Bounds of the waiting line."""

    limit: Count = 512
    """Most requests that may wait."""
    per_key: Count = 64
    """Most requests of one API key that may wait."""
    timeout: Duration = 600.0
    """Longest wait while no load for the model is under way."""


class Scheduling(Section):
    """Who is served when, and which model stays loaded."""

    max_wait: DurationOrAuto = "auto"
    """Longest wait before a model gets its turn; `auto`: 5 load times, 60 s to half of `queue.timeout`; 0s: FIFO."""
    linger: Linger = "auto"
    """How long an idle model stays while others wait; `auto`: through a live session's think time if that pays."""
    prefetch: Literal["off", "next", "learned"] = "next"
    """Whose weights are read into the page cache ahead: `next`, who waits; `learned`, also who usually comes next."""
    queue: Queue = Queue()
    """Bounds of the waiting line."""
    tasks: Literal["resident", "queue", "refuse"] = "resident"
    """What a background task for an unloaded model gets."""
    task_model: str | None = None
    """A loaded model that background tasks go to when no other loaded chat model will do."""
    orphan_grace: Duration = 60.0
    """How long engines wait for a new Roundhouse after the old one died."""
    drain_timeout: DurationOrNull = None
    """Longest time a leaving model may take for its running answers; null: they are never cut."""


class Sessions(Section):
    """Conversations that survive a switch (llama.cpp)."""

    store: Literal["off", "disk", "memory"] = "disk"
    """Where they are kept."""
    budget: Size = 20 * 1024**3
    """Most space they may take."""


class LoadTimeout(Section):
    """When a load is given up."""

    expected: DurationOrUnknown = None
    """What a load is expected to take; `auto`: learned, else 180 s."""
    stalled: Duration = 120.0
    """A load that stands still for so long is ended."""
    total: Duration = 1800.0
    """A load is ended after so long even if it moves."""


class Defaults(Section):
    """Settings of every model that does not say otherwise."""

    profile: Profile = "balanced"
    """Engine flags that shorten its starts or quicken its answers; `roundhouse check` explains each."""
    load_timeout: LoadTimeout = LoadTimeout()
    """When a load is given up."""
    ttl: Ttl = "auto"
    """Time without a request after which a model is unloaded."""
    slots: Count | None = None
    """Concurrent requests; null: one to four by memory (llama.cpp), 16 (SGLang, vLLM), what TabbyAPI says, else 64."""


class Tabby(Section):
    """A model that a TabbyAPI process loads."""

    mode: Literal["api", "config"] = "api"
    """`api`: loaded by its admin API; `config`: its config.yml is rewritten and it is restarted."""
    dir: Path
    """The TabbyAPI checkout."""
    model_dir: Path
    """The folder TabbyAPI finds models in."""
    model_name: str
    """The model's folder below `model_dir`."""
    max_seq_len: Count | None = None
    """Tokens of context."""
    cache_mode: str | None = None
    """Precision of the cache, such as FP16, Q8 or Q4."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Further keys: of the load request (`mode: api`), or of the `model` section of its config.yml (`mode: config`)."""


class ModelConfig(Section):
    """One model. Exactly one of `path`, `url`, `command`, `script`, `tabby`, `any_of` says what it is."""

    id: SkipJsonSchema[str]
    """Its key in `models`."""
    name: str | None = None
    """A name for people; default: the id."""
    description: str | None = None
    """A sentence for people."""
    tags: tuple[str, ...] = ()
    """Words that clients may filter by."""
    unlisted: bool = False
    """Whether it is left out of `/v1/models`."""
    kind: Literal["auto", "chat", "embedding", "rerank"] = "auto"
    """What it is for; `auto`: what its files say."""

    path: Path | None = None
    """A GGUF file, or a folder of safetensors, EXL2 or EXL3."""
    url: str | None = None
    """An OpenAI-compatible server run by others."""
    command: str | None = None
    """A command line that serves the OpenAI API on `${PORT}`."""
    script: Path | None = None
    """A start script."""
    tabby: Tabby | None = None
    """A model of a TabbyAPI process."""
    any_of: tuple[str, ...] | None = None
    """Ids of other models: the first that is loaded, else the first."""
    service: str | None = None
    """The systemd unit that runs it; goes with `path`, `script` or `tabby`."""

    engine: EngineName | None = None
    """The engine; detected from `path`. Null only for `any_of`."""
    launcher: LauncherName | None = None
    """Who starts the engine: `systemd` with `service`, `attached` with `url`, else `process`. Null for `any_of`."""
    port: Port | None = None
    """The engine's port; null: a free one."""
    args: tuple[Word, ...] = ()
    """Further arguments of the engine; they win over ours."""
    env: Mapping[str, Word] = Field(default_factory=dict)
    """Environment variables of the engine."""
    served_name: str | None = None
    """The name the engine serves; default: the id, or with `script` and `tabby` what the engine says."""
    health: str | None = None
    """Path that answers 200 once the engine is ready; of engine `openai`, that answers at all but for 5xx."""
    stop_command: str | None = None
    """Command that stops it, for engines in containers."""
    api_key: SecretStr | None = Field(default=None, json_schema_extra={"writeOnly": True})
    """The engine's own API key; never shown."""
    context: Count | None = None
    """Tokens of context per request; null: what it was trained for, at most 16384 (embeddings with llama.cpp: 2048)."""
    mmproj: Path | None = None
    """Vision projector; default: the one beside the model, null: none."""

    aliases: Aliases = Field(default_factory=dict)
    """Other names, each with request defaults of its own if given as a mapping."""
    set: Mapping[str, Any] = Field(default_factory=dict)
    """Request parameters that are always set to these values."""
    strip: tuple[str, ...] = ()
    """Request parameters that are removed."""
    status: ModelStatus | None = None
    """How its clients are told what they wait for; null: as for all models."""

    devices: tuple[str, ...] = ()
    """Where it runs: on this device, or over all of these; none named: a GPU that it fits, else all GPUs, or `ram`."""
    memory: Memory = None
    """Memory it needs, in all or on each device: an estimate that measured figures replace."""
    slots: Count | None = None
    """Concurrent requests; null: one to four by memory (llama.cpp), 16 (SGLang, vLLM), what TabbyAPI says, else 64."""
    ttl: Ttl = "auto"
    """Time without a request after which it is unloaded."""
    pinned: bool = False
    """Never unloaded to make room."""
    preload: bool = False
    """Loaded when Roundhouse starts."""
    priority: Whole = 0
    """Higher goes first."""
    min_resident: Duration = 0.0
    """Not unloaded to make room before so long."""
    max_instances: Count = 1
    """Most engines of it at once."""
    load_timeout: LoadTimeout = LoadTimeout()
    """When its load is given up."""
    sessions: bool | None = None
    """Whether its conversations are kept across switches (llama.cpp); null: unless `sessions.store` is off."""
    profile: Profile = "balanced"
    """Engine flags that shorten its starts or quicken its answers; `roundhouse check` explains each."""


class KeyRate(Section):
    """How much one key may ask."""

    requests: RateOrNull = None
    """Requests per time, such as `60/m`."""
    tokens: RateOrNull = None
    """Tokens per time, such as `1M/d`."""


class Key(Section):
    """One API key. Only its hash is kept."""

    name: str
    """Who it belongs to."""
    hash: str = Field(pattern="^sha256:")
    """`sha256:` and the hexadecimal SHA-256 of the key."""
    models: tuple[str, ...] = ("*",)
    """Models it may use; `*` matches any text."""
    apis: tuple[Api, ...] = ("openai", "anthropic", "ollama")
    """APIs it may use."""
    admin: bool = False
    """Whether it may do everything."""
    manage: bool = False
    """Whether it may load and unload models."""
    priority: Whole = 0
    """Higher goes first."""
    status: Channel | None = None
    """Where status goes for this key; null: as for the model."""
    rate: KeyRate = KeyRate()
    """Its limits."""
    expires: Moment = None
    """From when on it is refused."""
    trusted: bool = False
    """Whether headers that name users and priorities are believed."""


class Config(Section):
    """A whole configuration, resolved."""

    listen: Addresses = ("127.0.0.1:8002", "[::1]:8002")
    """One address or a list; another than loopback needs `keys`, or `allow_anonymous: true`."""
    allow_anonymous: bool = False
    """Whether anyone who reaches an address other than loopback may use it."""
    tls: Tls | None = None
    """Certificate files for HTTPS."""
    cors: Cors = Cors()
    """Which web pages may call the API from a browser."""
    limits: Limits = Limits()
    """Bounds on what a client may send."""
    shutdown: Shutdown = Shutdown()
    """What happens when Roundhouse ends."""
    reload: Reload = Reload()
    """How changes of this file are noticed."""
    systemd: Literal["system", "user"] = "system"
    """The manager that `launcher: systemd` talks to."""
    engines: Engines = Engines()
    """Where the engines are installed."""
    state_dir: Path = Path("~/.local/state/roundhouse")
    """History, saved sessions and logs; the service uses /var/lib/roundhouse."""
    status: Status = Status()
    """How a streaming client is told what it waits for."""
    performance: Literal["auto", "content", "usage", "off"] = "auto"
    """Where the performance line goes; `auto` follows the status channel and is always in `usage`."""
    devices: Mapping[str, Size] = Field(default_factory=dict)
    """Budget of memory by device, not overridden by detection; none: detected."""
    scheduling: Scheduling = Scheduling()
    """Who is served when, and which model stays loaded."""
    sessions: Sessions = Sessions()
    """Conversations that survive a switch."""
    captures: Captures = Captures()
    """Copies of requests' and answers' bodies."""
    defaults: Defaults = Defaults()
    """Settings of every model that does not say otherwise."""
    models_dir: Folders = ()
    """Folders whose models are all listed, under their file's or folder's name."""
    models: Mapping[str, ModelConfig] = Field(default_factory=dict)
    """The models by id, in order; those found in `models_dir` come last."""
    keys: tuple[Key, ...] = ()
    """API keys; none: a key is not needed."""

    source: SkipJsonSchema[Path | None] = None
    """The file this was read from."""
    warnings: SkipJsonSchema[tuple[str, ...]] = ()
    """What is odd about it but no error, in words."""
