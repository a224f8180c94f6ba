"""The kinds of values that configuration keys have, as annotated types: durations, sizes, rates, lists of words.

A configuration file must write units (`10s`, `4GiB`); code that builds models passes plain seconds and bytes. The
loader says which it is by the validation context `FROM_FILE`.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from roundhouse.config import addresses, units

FROM_FILE = {"written": True}
"""Validation context of values that a person wrote: a bare number is no duration and no size."""

_DURATION_TEXT = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d)\s*$", "examples": ["30s", "5m"]}
_SIZE_TEXT = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([KMGT]iB|[kMGT]?B)\s*$", "examples": ["8GiB", "20GB"]}


def _written(info: ValidationInfo) -> bool:
    return bool(info.context and info.context.get("written"))


def _seconds(value: object, info: ValidationInfo) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and not _written(info):
        return float(value)
    return units.duration(value)


def _bytes(value: object, info: ValidationInfo) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and not _written(info):
        return value
    return units.size(value)


def _or_words(
    words: Mapping[str | None, Any], otherwise: Callable[[object, ValidationInfo], Any], kind: str
) -> PlainValidator:
    """A validator that maps words to values and gives everything else to `otherwise`."""
    spelled = " | ".join(word or "null" for word in words)

    def read(value: object, info: ValidationInfo) -> Any:  # noqa: ANN401 - as wide as the fields it serves
        if (value is None or isinstance(value, str)) and value in words:
            return words[value]
        try:
            return otherwise(value, info)
        except ValueError as error:
            raise ValueError(f"{error} (or {spelled})" if kind else str(error)) from None

    return PlainValidator(read)


def _schema_with(words: tuple[str | None, ...], other: Mapping[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"enum": list(words)}, dict(other)]})


Duration = Annotated[float, PlainValidator(_seconds), WithJsonSchema(_DURATION_TEXT)]
"""Seconds."""

DurationOrNull = Annotated[
    float | None, _or_words({None: None}, _seconds, "duration"), _schema_with((None,), _DURATION_TEXT)
]
"""Seconds, None where the file says null."""

DurationOrUnknown = Annotated[
    float | None, _or_words({"auto": None, None: None}, _seconds, "duration"), _schema_with(("auto",), _DURATION_TEXT)
]
"""Seconds, None where the file says auto."""

DurationOrAuto = Annotated[
    float | Literal["auto"],
    _or_words({"auto": "auto"}, _seconds, "duration"),
    _schema_with(("auto",), _DURATION_TEXT),
]
"""Seconds or the word `auto`."""

Linger = Annotated[
    float | Literal["auto", "off"],
    _or_words({"auto": "auto", "off": "off"}, _seconds, "duration"),
    _schema_with(("auto", "off"), _DURATION_TEXT),
]
"""Seconds or one of the words `auto`, `off`."""

Ttl = Annotated[
    float | Literal["auto"] | None,
    _or_words({"auto": "auto", "never": None, None: None}, _seconds, "duration"),
    _schema_with(("auto", "never"), _DURATION_TEXT),
]
"""Seconds, the word `auto`, or None where the file says `never`."""

Size = Annotated[int, PlainValidator(_bytes), WithJsonSchema(_SIZE_TEXT)]
"""Bytes."""


def _rate(value: object) -> units.Rate:
    return value if isinstance(value, units.Rate) else units.rate(value)


RateOrNull = Annotated[
    units.Rate | None,
    _or_words({None: None}, lambda value, _: _rate(value), ""),
    PlainSerializer(str, return_type=str, when_used="json-unless-none"),
    WithJsonSchema({"anyOf": [{"type": "string", "examples": ["60/m", "1M/d"]}, {"type": "null"}]}),
]
"""A rate such as `60/m`, or null."""


def _memory(value: object, info: ValidationInfo) -> Mapping[str, int] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return {"": _bytes(value, info)}
    sizes = {}
    for device, figure in value.items():
        try:
            sizes[str(device)] = _bytes(figure, info)
        except ValueError as error:
            raise ValueError(f"{device}: {error}") from None
    return sizes


Memory = Annotated[
    Mapping[str, int] | None,
    PlainValidator(_memory),
    WithJsonSchema(
        {
            "anyOf": [_SIZE_TEXT, {"type": "object", "additionalProperties": _SIZE_TEXT}, {"type": "null"}],
        }
    ),
]
"""Bytes per device; the key '' stands for the one device the model is put on."""


def _aliases(value: object) -> Mapping[str, Mapping[str, Any]]:
    if isinstance(value, list | tuple):
        names = [name for name in value if isinstance(name, str) and name]
        if len(names) == len(value) == len(set(names)):
            return {name: {} for name in names}
    elif isinstance(value, Mapping) and all(
        defaults is None or isinstance(defaults, Mapping) for defaults in value.values()
    ):
        return {str(name): dict(defaults or {}) for name, defaults in value.items()}
    raise ValueError("aliases are a list of different names, or a mapping of name to request defaults; write [a, b]")


Aliases = Annotated[
    Mapping[str, Mapping[str, Any]],
    PlainValidator(_aliases),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
                {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
            ],
        }
    ),
]
"""Request defaults by alias."""


def _word(value: object) -> object:
    """A number becomes text as on a command line; a truth value does not, for it has many spellings there."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a whole number; write one")  # noqa: TRY004 - pydantic's protocol
    return value


Whole = Annotated[int, BeforeValidator(_no_truth)]
"""A whole number; true is not taken for 1."""

Word = Annotated[str, BeforeValidator(_word, json_schema_input_type=str | float)]
"""Text where YAML may have read a number: `--port 8080`, `CUDA_VISIBLE_DEVICES: 0`."""


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str | Path) else value


def _address(value: str) -> str:
    addresses.split(value)
    return value


Address = Annotated[str, AfterValidator(_address)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_one_or_many, json_schema_input_type=str | list[str])]
"""One `host:port` or a list of them."""

Folders = Annotated[tuple[Path, ...], BeforeValidator(_one_or_many, json_schema_input_type=str | list[str])]
"""One folder or a list of them."""


def _moment(value: object) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(f"{value!r} is not a date; write for example 2027-01-31") from None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise ValueError(f"{value!r} is not a date; write for example 2027-01-31")


Moment = Annotated[
    datetime | None,
    PlainValidator(_moment),
    PlainSerializer(datetime.isoformat, return_type=str, when_used="json-unless-none"),
    WithJsonSchema({"anyOf": [{"type": "string", "examples": ["2027-01-31"]}, {"type": "null"}]}),
]
"""A point in time; a date is its first instant, and a time without a zone is UTC."""
