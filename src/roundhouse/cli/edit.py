"""`roundhouse models add|remove|edit`: the configuration file changed where a person would, its comments kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roundhouse.cli.completion import configured_names
from roundhouse.cli.exits import Failed, Refused, Usage
from roundhouse.cli.options import DEFAULT_URL, ConfigOption, JsonOption, KeyOption, UrlOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from roundhouse.config.models import Config, ModelConfig
    from roundhouse.config.saving import Original

NameArgument = Annotated[
    str, typer.Argument(help="Id of a model.", show_default=False, autocompletion=configured_names)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="KEY=VALUE, the value in YAML, KEY with dots for parts; repeatable.", metavar="KEY=VALUE"
    ),
]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Write nothing; show what would change.")]
ApplyOption = Annotated[bool, typer.Option("--apply", help="Have the running Roundhouse take it over at once.")]
SOURCES = ("path", "url", "command", "script", "tabby", "any_of")


@dataclass(frozen=True)
class Way:
    """What is done with an edited file."""

    dry: bool
    apply: bool
    url: str
    key: str | None
    as_json: bool


@dataclass(frozen=True)
class File:
    """The file to edit, and what it says."""

    original: Original
    config: Config

    @property
    def path(self) -> Path:
        """As it was named or found."""
        return self.original.path


def register(group: typer.Typer) -> None:
    """Adds the commands."""
    group.command(epilog="Example: roundhouse models add qwen --path ~/models/qwen.gguf --set context=8192")(add)
    group.command(epilog="Example: roundhouse models remove qwen --apply")(remove)
    group.command(epilog="Example: roundhouse models edit qwen --set ttl=30m --set args='[-fa, on]' --unset slots")(
        edit
    )


def add(
    name: Annotated[str, typer.Argument(help="The new model's id.", show_default=False)],
    path: Annotated[
        Path | None, typer.Option("--path", help="A model file, or a folder with one.", show_default=False)
    ] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="Default: told by the file.")] = None,
    settings: SetOption = None,
    config: ConfigOption = None,
    dry: DryOption = False,
    apply: ApplyOption = False,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a model to the configuration file.

    Without --path or another source (--set url=…, --set command=…), NAME is one of those that `models discover` lists.
    """
    from roundhouse.config import edit as texts

    file = _file(config)
    pairs = _pairs(settings)
    written = {keys[0] for keys, _ in pairs}
    if path is not None:
        body = {"path": _escaped(str(_there(path)))}
    elif written & set(SOURCES):
        body = {}
    else:
        body = _stored(name)
    if engine is not None:
        body["engine"] = engine
    model: dict[str, Any] = {"models": {name: body}}
    for keys, value in pairs:
        model = texts.with_value(model, ("models", name, *keys), value)
    text = texts.add(file.original.text, name, model["models"][name])
    _finish(file, text, name, "added", Way(dry, apply, url, key, as_json))


def remove(
    name: NameArgument,
    force: Annotated[bool, typer.Option("--force", help="Also from the settings that name it.")] = False,
    config: ConfigOption = None,
    dry: DryOption = False,
    apply: ApplyOption = False,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a model from the configuration file, with its comments. Its own files stay.

    Refused while other settings name it, unless --force takes it out of them too. What API keys may use never changes.
    """
    from roundhouse.config import edit as texts
    from roundhouse.config.mentions import mentions, without

    file = _file(config)
    _require_entry(file, name)
    found = mentions(file.config, name)
    if found and not force:
        raise Refused(f"{name} is named by {', '.join(found)}. Change that first, or --force takes it out of there.")
    text = texts.remove(without(file.original.text, file.config, name), name)
    _finish(file, text, name, "removed", Way(dry, apply, url, key, as_json))


def edit(
    name: NameArgument,
    settings: SetOption = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", help="KEY to take out; repeatable.", metavar="KEY")
    ] = None,
    config: ConfigOption = None,
    dry: DryOption = False,
    apply: ApplyOption = False,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a model in the configuration file; without --set and --unset in $VISUAL or $EDITOR.

    A model found in `models_dir` gets an entry of its own.
    """
    from roundhouse.cli import editor
    from roundhouse.config import edit as texts

    file = _file(config)
    text = _with_entry(file, name)
    if settings or unset:
        for keys, value in _pairs(settings):
            text = texts.assign(text, ("models", name, *keys), value)
        for dotted in unset or ():
            text = texts.unset(text, ("models", name, *_keys(dotted)))
    else:
        text = editor.edited(text, name, lambda new: _checked(file, new))
    _finish(file, text, name, "changed", Way(dry, apply, url, key, as_json))


def _file(explicit: Path | None) -> File:
    """The configuration file, right as it is. Raises ConfigError, SaveError."""
    from roundhouse.config import saving
    from roundhouse.config.load import find, parse

    original = saving.read(find(explicit, os.environ))
    return File(original, parse(original.text, original.path, os.environ))


def _checked(file: File, text: str) -> Config:
    """What a text says, read as Roundhouse would. Raises ConfigError."""
    from roundhouse.config.load import parse

    return parse(text, file.path, os.environ)


def _pairs(settings: list[str] | None) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        if not equals:
            raise Usage(f"--set {setting}: write KEY=VALUE, for example context=8192.")
        found.append((_keys(name), _value(value)))
    return found


def _keys(dotted: str) -> tuple[str, ...]:
    from roundhouse.config import edit as texts

    try:
        return texts.keys_of(dotted)
    except ValueError as error:
        raise Usage(str(error)) from None


def _value(written: str) -> Any:  # noqa: ANN401 - any YAML value
    from roundhouse.config import edit as texts

    try:
        return texts.value_of(written)
    except ValueError as error:
        raise Usage(str(error)) from None


def _there(path: Path) -> Path:
    found = path.expanduser().absolute()
    if not found.exists():
        raise Usage(f"There is no {found}. --set path=… takes one that is still to come.")
    return found


def _escaped(text: str) -> str:
    return text.replace("$", "$$")


def _stored(name: str) -> dict[str, Any]:
    """The keys of a model that another program keeps. Raises Usage."""
    from roundhouse.app.stores import search, usual_places

    found, _ = search(usual_places(os.environ))
    for model in found:
        if model.name == name and model.problem is None:
            body = {key: _escaped(value) if isinstance(value, str) else value for key, value in model.body.items()}
            return {key: value for key, value in body.items() if key != "engine"}
    raise Usage(
        f"Where is {name!r}? Give --path FILE, --set url=… or --set command=…; `roundhouse models discover` lists what"
        " can be added by its name alone."
    )


def _known(file: File, name: str) -> ModelConfig:
    """A model of the configuration. Raises Refused."""
    from roundhouse.config.wording import closest

    model = file.config.models.get(name)
    if model is None:
        owner = next((one.id for one in file.config.models.values() if name in one.aliases), None)
        hint = f"it is an alias of {owner}" if owner else closest(name, file.config.models)
        raise Refused(f"There is no model {name!r} in {file.path}; {hint}.")
    return model


def _has_entry(file: File, name: str) -> bool:
    from roundhouse.config import edit as texts

    return name in (texts.plain(file.original.text).get("models") or {})


def _require_entry(file: File, name: str) -> None:
    model = _known(file, name)
    if not _has_entry(file, name):
        raise Refused(
            f"{name} has no entry in {file.path}: it is listed because {model.path} lies below `models_dir`."
            f" Move that away, or hide it: roundhouse models edit {name} --set unlisted=true"
        )


def _with_entry(file: File, name: str) -> str:
    """The text, with an entry for a model of `models_dir`."""
    from roundhouse.config import edit as texts

    model = _known(file, name)
    if _has_entry(file, name):
        return file.original.text
    return texts.add(file.original.text, name, {"path": _escaped(str(model.path))})


def _finish(file: File, text: str, name: str, done: str, way: Way) -> None:
    """Checks, writes, says so, applies."""
    from roundhouse.cli import screen
    from roundhouse.config import saving

    config = _checked(file, text)
    changed = text != file.original.text
    if changed and not way.dry:
        saving.write(file.original, text)
    notes = [note for note in config.warnings if note not in file.config.warnings]
    told: dict[str, Any] = {
        "file": str(file.path),
        "model": name,
        "changed": changed,
        "written": changed and not way.dry,
    }
    told |= {"diff": _diff(file, text), "warnings": notes}
    if way.as_json:
        screen.print_json(told | ({"reload": _applied(file, way)} if way.apply and not way.dry else {}))
        return
    if way.dry:
        print(told["diff"], end="")
    elif changed:
        print(f"{name}: {done}. Wrote {file.path}.")
    if not changed:
        print(f"{file.path} says so already; nothing was written.")
    for note in notes:
        print(f"Note: {note}")
    if way.apply and not way.dry:
        _applied(file, way)
    elif changed and not way.dry:
        watched = "A Roundhouse that runs with it takes it over by itself" if config.reload.watch else "To have it hold"
        print(f"{watched}: roundhouse plan shows what changes, roundhouse apply does it now.")


def _diff(file: File, text: str) -> str:
    import difflib

    old, new = (part.splitlines(keepends=True) for part in (file.original.text, text))
    lines = difflib.unified_diff(old, new, str(file.path), f"{file.path} (edited)")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _applied(file: File, way: Way) -> Any:  # noqa: ANN401 - the answer of POST /api/v1/reload
    """Has the running Roundhouse read its file; its answer. Raises Failed, NotRunning, Refused."""
    from roundhouse.cli import reload
    from roundhouse.cli.client import Client

    client = Client(way.url, way.key)
    found = _asked(lambda: client.get("/api/v1/plan"), file)
    if Path(found["file"]).resolve() != file.path.resolve():
        raise Refused(
            f"The Roundhouse at {way.url} runs with {found['file']}, not with {file.path}: nothing was applied."
        )
    answer = client.post("/api/v1/reload")
    if answer["error"] is not None:
        raise Failed(f"{file.path} was written, but not applied: {answer['error']['message']}")
    if not way.as_json:
        reload.show(answer, "has changed")
    return answer


def _asked(ask: Callable[[], Any], file: File) -> Any:  # noqa: ANN401 - as `_applied`
    try:
        return ask()
    except Refused as error:
        raise Refused(
            f"{file.path} was written, but not applied: {error.message} Restart Roundhouse otherwise."
        ) from None
