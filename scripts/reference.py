"""Writes docs/reference from the code: configuration, errors, metrics, routes, command line, and the JSON Schema.

`python scripts/reference.py` writes the pages, `--check` only says which are stale and exits with 1 then. What a page
says stands in the code (docstrings, defaults, help texts): change it there. tests/test_docs.py holds them together.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer
from fastapi.routing import APIRoute
from prometheus_client.parser import text_string_to_metric_families

from roundhouse import __version__, errors
from roundhouse.api import media
from roundhouse.api.admin import make_admin
from roundhouse.api.dashboard import add_dashboard
from roundhouse.api.engine_paths import PREFIX, QUERIED
from roundhouse.api.key_routes import add_keys
from roundhouse.api.reload import add_reload
from roundhouse.api.routes import ROUTES
from roundhouse.app import sockets
from roundhouse.app.apis import add_routes
from roundhouse.cli.root import app
from roundhouse.config import units
from roundhouse.config.schema import json_schema
from roundhouse.core.model import Device, Fleet, ModelSpec, Use
from roundhouse.demo import problems
from roundhouse.dialects import anthropic, ollama, responses
from roundhouse.errors import RouterError
from roundhouse.observe.metrics import Metrics, Snapshot
from roundhouse.ports import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from roundhouse.api.admin import House

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
GENERATED = "<!-- Written by scripts/reference.py: change the code instead. -->"
NOT_YET = ("models.ID.max_instances", "reload.watch")
"""Keys that are read and have no effect in this version, as `config.later` knows."""

CONFIGURATION = f"""\
Keys of the configuration file, which `roundhouse check` checks. `--config` or `$ROUNDHOUSE_CONFIG` names it; else it is
the first of `./roundhouse.yaml`, `~/.config/roundhouse/config.yaml`, `/etc/roundhouse/config.yaml`.

Durations are a number with a unit ({", ".join(units.DURATIONS)}), and so are sizes ({", ".join(units.SIZES)}); a bare
number is neither. `${{NAME}}` is an environment variable, `${{NAME:-x}}` gives it a default, `$$` is a dollar sign.
Paths are relative to the file's folder. A model's `profile`, `ttl`, `slots` and `load_timeout` are those of `defaults`
unless it has its own.

Editors know all this from [roundhouse.schema.json](roundhouse.schema.json), if the file begins with
`# yaml-language-server: $schema=PATH`."""

ERRORS = """\
Errors are JSON, `{"error": {"message", "type", "param", "code"}}`, with the status below, and `Retry-After` where
trying again later makes sense. Once a stream has begun, the same object comes as an event, then `[DONE]`.

Errors of engines keep their status and are brought into this shape. Where an engine gives no code, it is the one with
that status in the table, `engine_unavailable` for 503, or `context_length_exceeded` where llama.cpp says so.

`internal_error` (500) is a mistake of Roundhouse's own; its log has the details."""

METRICS = """\
`GET /metrics` gives these in Prometheus's text format, and `process_*` of Roundhouse itself. Requests for models that
are not configured count as `other`."""

MEDIA = (
    "Speech, transcriptions and images ([clients](../clients.md#speech-transcriptions-and-images)): "
    + ", ".join(f"`POST {path}`" for path in media.ENGINES)
    + ", and without `/v1`.\n"
)
OWN_ROUTES = """\
Where keys are configured, every call needs one, but for `/`, `/ui`, `/docs`, `/api/version` and `/health`, which then
tells other machines only its status and version. `load`, `unload`, `pin`, `unpin`, `log`, `details`, `queue`,
`requests` and `config` need a key with `admin: true` or `manage: true`."""


def configuration() -> str:
    """Every key of the configuration file, a table per section."""
    schema = json_schema()
    parts = [_head("Configuration", CONFIGURATION), _without_effect(), *_sections(schema, schema["$defs"], "")]
    return _page(parts)


def _without_effect() -> str:
    return f"Read, but without effect in this version: {_words(NOT_YET)}."


def _sections(section: Mapping[str, Any], definitions: Mapping[str, Any], at: str) -> Iterator[str]:
    """The table of a section, then those of the sections in it; `at` is its dotted key, '' for the whole file."""
    if at:
        yield f"## {at}"
        yield str(section.get("description", ""))
    inner: list[tuple[str, Mapping[str, Any]]] = []
    rows: list[tuple[str, ...]] = []
    for key, field in section["properties"].items():
        found = _section_of(field, definitions)
        if found is None:
            rows.append((f"`{key}`", _kind(field), _default(field), field.get("description", "")))
            continue
        suffix, target = found
        path = f"{at}.{key}{suffix}" if at else f"{key}{suffix}"
        told = field.get("description") or target.get("description", "")
        rows.append((f"`{key}`", f"[{path}](#{_anchor(path)})", _default(field), told))
        inner.append((path, target))
    yield _table(("key", "value", "default", "meaning"), rows)
    for path, target in inner:
        yield from _sections(target, definitions, path)


def _section_of(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The section that a field holds one of (''), many of by name ('.ID'), or a list of ('[]'); None: a plain value."""
    places = [("", field), (".ID", field.get("additionalProperties")), ("[]", field.get("items"))]
    places += [("", part) for part in field.get("anyOf", ())]
    for suffix, place in places:
        if isinstance(place, dict) and "$ref" in place:
            return suffix, definitions[place["$ref"].rpartition("/")[2]]
    return None


def _kind(field: Mapping[str, Any]) -> str:
    """The kind of a value in words."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(part) for part in field["anyOf"]))
    if "enum" in field:
        return ", ".join(f"`{word}`" if word is not None else "null" for word in field["enum"])
    if "pattern" in field and "examples" in field:
        return "size" if "iB" in field["pattern"] else "duration"
    if "items" in field:
        return f"list of: {_kind(field['items'])}"
    if isinstance(field.get("additionalProperties"), dict):
        return f"mapping to: {_kind(field['additionalProperties'])}"
    names = {"boolean": "true, false", "integer": "whole number", "object": "mapping", "string": "text"}
    found = field.get("type", "anything")
    kinds: list[str] = found if isinstance(found, list) else [found]
    return "path" if field.get("format") == "path" else " or ".join(names.get(kind, kind) for kind in kinds)


def _default(field: Mapping[str, Any]) -> str:
    return f"`{json.dumps(field['default'], ensure_ascii=False)}`" if "default" in field else ""


def error_codes() -> str:
    """Every error that a client or the command line may meet."""
    before_serving = [e for module in (sockets, problems) for e in _tree(RouterError, module.__name__)]
    return _page(
        [
            _head("Errors", ERRORS),
            _error_table(_tree(RouterError, errors.__name__)),
            "## Before it serves",
            "These only end a command, which says what happened.",
            _error_table(before_serving),
        ]
    )


def _error_table(found: Iterable[type[RouterError]]) -> str:
    ordered = sorted(set(found), key=lambda error: (error.status, error.code))
    rows = [(f"`{e.code}`", str(e.status), f"`{e.type}`", _first(e)) for e in ordered]
    return _table(("code", "status", "type", "meaning"), rows)


def _tree(error: type[RouterError], module: str) -> Iterator[type[RouterError]]:
    """What derives from an error, as far as it stands in that module."""
    for derived in error.__subclasses__():
        if derived.__module__ == module:
            yield derived
        yield from _tree(derived, module)


def metrics() -> str:
    """Every metric, as it is when scraped."""
    rows = []
    for family in text_string_to_metric_families(_scraped()):
        if family.name.startswith("roundhouse_"):
            labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
            name = f"{family.name}_total" if family.type == "counter" else family.name
            rows.append((f"`{name}`", family.type, _words(labels), family.documentation))
    return _page([_head("Metrics", METRICS), _table(("metric", "kind", "labels", "meaning"), rows)])


def _scraped() -> str:
    """Metrics of a box on which everything has happened once: labels are only seen where there are values."""
    fleet = Fleet([ModelSpec("m", claim={"ram": 2})], [Device("ram", 4)])
    fleet.instances[1], fleet.use[1] = "m", Use(0, 0.0)
    reading = Reading({"ram": 4}, {"ram": 2}, {1: {"ram": 2}})
    seen = Metrics(["m"], lambda: Snapshot(fleet, reading, {"history": 1}))
    seen.request_done(
        model="m",
        engine="e",
        key_class="key",
        status=200,
        queue_s=1.0,
        load_s=1.0,
        ttft_s=1.0,
        prompt_tokens=1,
        completion_tokens=1,
        total_s=1.0,
    )
    seen.task_done(task="title", model="m", served_by="m")
    seen.load_done(model="m", engine="e", seconds=1.0, ok=True)
    seen.evicted(model="m", reason="room")
    seen.engine_exited(model="m", expected=True)
    seen.engine_restarted(model="m")
    seen.reloaded("applied")
    seen.conversation(model="m", outcome="saved")
    seen.prefetched(model="m", outcome="done", read=1, found=1, seconds=1.0)
    seen.switch_parts({"load": 1.0})
    return seen.render().decode()


_AS_THEY_ARE = (
    "`{}{{model}}/{{path}}`, any method and WebSockets, and `GET` of {} with `?model=` go to the engine"
    " [as they are](../clients.md#an-engines-own-paths)."
)


def routes() -> str:
    """Every path: those that engines answer, and our own."""
    relayed = [(f"`POST {path}`", str(route.operation), _words(sorted(route.kinds))) for path, route in ROUTES.items()]
    admin = make_admin(cast("House", None), __version__)
    add_routes(admin, cast("Any", None), cast("Any", None), cast("Any", None))
    add_dashboard(admin, cast("Any", None), cast("Any", None))
    add_reload(admin, cast("Any", None), cast("Any", None))
    add_keys(admin, cast("Any", None))
    own = [
        (f"`{_method(route)} {route.path.replace(':path', '')}`", route.description or "Says that Roundhouse runs.")
        for route in admin.routes
        if isinstance(route, APIRoute)
    ]
    return _page(
        [
            _head(
                "Routes",
                "`/docs` shows in a browser what can be asked; `/openapi.json` tells it to generators of clients.",
            ),
            "## Answered by engines",
            "The body names the model, which is loaded if need be.",
            _table(("path", "operation", "kinds of models"), relayed),
            "Requests of [other APIs](../clients.md) become one of these: "
            + _words([*anthropic.PATHS, *ollama.PATHS, responses.PATH]).replace("`/", "`POST /")
            + ".",
            _AS_THEY_ARE.format(PREFIX, _words(QUERIED)),
            MEDIA.rstrip(),
            "## Answered by Roundhouse",
            OWN_ROUTES,
            _table(("path", "meaning"), own),
        ]
    )


def _method(route: APIRoute) -> str:
    return " ".join(sorted(route.methods or ()))


def command_line() -> str:
    """Every command with its options."""
    root = cast("Any", typer.main.get_command(app))
    return _page(
        [
            _head("Command line", str(root.help)),
            str(root.epilog),
            _table(("option", "meaning"), _options(root)),
            *_commands(root, "roundhouse"),
        ]
    )


def _commands(group: Any, name: str) -> Iterator[str]:  # noqa: ANN401 - typer has no public type for its commands
    for word, command in group.commands.items():
        full = f"{name} {word}"
        if hasattr(command, "commands"):
            yield from _commands(command, full)
            continue
        arguments = [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in command.params if _is_argument(p)]
        yield f"## {' '.join([full, *arguments])}"
        yield inspect.cleandoc(command.help)
        yield _table(("option", "meaning"), _options(command))
        yield f"```sh\n{command.epilog.removeprefix('Example: ')}\n```"


def _options(command: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - as above
    return [(_names(option), _told(option)) for option in command.params]


def _is_argument(parameter: Any) -> bool:  # noqa: ANN401 - as above
    return not parameter.opts[0].startswith("-")


def _names(option: Any) -> str:  # noqa: ANN401 - as above
    if _is_argument(option):
        return f"`{option.name.upper()}`"
    value = "" if option.is_flag else f" {option.name.upper()}"
    return ", ".join(f"`{name}{value}`" for name in (*option.opts, *option.secondary_opts))


def _told(option: Any) -> str:  # noqa: ANN401 - as above
    told = [option.help]
    if option.envvar:
        told.append(f"Environment: `{option.envvar}`.")
    if option.show_default and option.default not in {None, False}:
        told.append(f"Default: `{option.default}`.")
    return " ".join(told)


def schema_file() -> str:
    """The JSON Schema of the configuration file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _head(title: str, text: str) -> str:
    return f"{GENERATED}\n\n# {title}\n\n{text}"


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _first(thing: type) -> str:
    text = inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    return re.sub(r" \(spec [^)]*\)", "", text)


def _anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return "".join(c for c in title.lower() if c.isalnum() or c in "-_")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


PAGES: Mapping[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "errors.md": error_codes,
    "metrics.md": metrics,
    "routes.md": routes,
    "cli.md": command_line,
    "roundhouse.schema.json": schema_file,
}


def stale(folder: Path = FOLDER) -> dict[str, str]:
    """The pages in `folder` that are missing or say something else than the code, with what they should say."""
    wanted = {name: page() for name, page in PAGES.items()}
    return {
        name: text
        for name, text in wanted.items()
        if not (folder / name).is_file() or (folder / name).read_text("utf-8") != text
    }


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Writes docs/reference from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is stale")
    checks = parser.parse_args().check
    found = stale()
    for name, text in found.items():
        if not checks:
            FOLDER.mkdir(parents=True, exist_ok=True)
            (FOLDER / name).write_text(text, "utf-8")
        sys.stdout.write(f"{'stale' if checks else 'wrote'}: docs/reference/{name}\n")
    return int(checks and bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
