"""Command lines that start an engine: which engine, which model, which port, and the same said in our keys.

Knows the flags of llama-server, SGLang and vLLM that Roundhouse sets itself; all others are passed on as they are.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from roundhouse.config.models import EngineName

Words = tuple[str | None, ...]
"""A command line; None is a word that only a shell would know."""


@dataclass(frozen=True, slots=True)
class Flags:
    """An engine's own names for what Roundhouse has keys for."""

    model: tuple[str, ...]
    served: tuple[str, ...]
    context: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    port: tuple[str, ...] = ("--port",)
    host: tuple[str, ...] = ("--host",)


FLAGS: Final[Mapping[EngineName, Flags]] = {
    "llamacpp": Flags(("-m", "--model"), ("-a", "--alias"), ("-c", "--ctx-size"), ("-np", "--parallel")),
    "sglang": Flags(("--model-path", "--model"), ("--served-model-name",)),
    "vllm": Flags(("--model",), ("--served-model-name",)),
}

OTHER_MODELS: Final = frozenset(
    "-hf -hfr --hf-repo -hff --hf-file -mu --model-url --models-dir --models-preset -dr --docker-repo".split()  # noqa: SIM905 - a line each would hide what they are
)
"""Flags by which llama-server finds models by itself."""

ANYWHERE: Final = frozenset({"0.0.0.0", "::", "*"})  # noqa: S104 - compared with, not bound to


class CannotTellError(ValueError):
    """The command line can't be said in our keys for certain; the message says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """An engine's command line.

    Attributes:
        program: what is run: llama-server, or the interpreter that has the engine.
        args: the engine's own arguments.
    """

    engine: EngineName
    program: str
    args: Words

    def value(self, names: Sequence[str]) -> str | None:
        """The value of a flag, the last one given; None if it is not there or can't be told."""
        return value(self.args, names)

    def has(self, name: str) -> bool:
        """Whether a flag is given."""
        return name in self.args

    @property
    def model(self) -> str | None:
        """The model's path or name."""
        if self.engine == "vllm" and self.args[:1] and self.args[0] and not self.args[0].startswith("-"):
            return self.args[0]
        return self.value(FLAGS[self.engine].model)

    @property
    def port(self) -> int | None:
        """Its port, if it says one."""
        return number(self.value(FLAGS[self.engine].port))

    @property
    def served_name(self) -> str | None:
        """The name it serves the model under, if it says one."""
        return self.value(FLAGS[self.engine].served)


def value(words: Words, names: Sequence[str]) -> str | None:
    """The value of a flag, the last one given; None if it is not there or can't be told."""
    found = None
    for index, word in enumerate(words):
        if word in names and index + 1 < len(words):
            found = words[index + 1]
        for name in names:
            if word and name.startswith("--") and word.startswith(f"{name}="):
                found = word.removeprefix(f"{name}=")
    return found


def number(text: str | None) -> int | None:
    """A whole number above 0, None for everything else."""
    return int(text) if text and text.isascii() and text.isdigit() and int(text) > 0 else None


def server(words: Words) -> Server | None:
    """The engine that a command line starts; None if it is none of ours."""
    match words:
        case [str(program), "-m", "sglang.launch_server", *args] if _is_python(program):
            return Server("sglang", program, tuple(args))
        case [str(program), "-m", "vllm.entrypoints.openai.api_server", *args] if _is_python(program):
            return Server("vllm", program, tuple(args))
        case [str(program), "serve", *args] if _name(program) == "vllm":
            return Server("vllm", program, tuple(args))
        case [str(program), *args] if _name(program) in {"llama-server", "llama-server.exe"}:
            return Server("llamacpp", program, tuple(args))
        case [_, *rest] if rest:
            # Behind something that runs it: numactl, taskset, nice, a wrapper of the user's.
            return server(tuple(rest))
    return None


def is_direct(words: Words, found: Server) -> bool:
    """Whether the engine is the command itself, with nothing before it."""
    return bool(words) and words[0] == found.program


def model_keys(found: Server, folder: str | None, name: str) -> dict[str, Any]:
    """The same as `engine`, `path`, `args` and what goes with them. `folder` is what its paths are relative to.

    Raises CannotTellError where one of its words or its model is not known for certain.
    """
    if None in found.args:
        raise CannotTellError("a part of its command line is only known to the shell that runs it")
    if others := OTHER_MODELS & set(found.args):
        raise CannotTellError(f"{min(word for word in others if word)} lets the engine find the model")
    flags = FLAGS[found.engine]
    model = found.model
    if model is None:
        raise CannotTellError("it names no model")
    if not model.startswith(("/", "~/", "./", "../")) and (found.engine != "llamacpp" and "/" in model):
        raise CannotTellError(f"{model} may be the name of a repository, which `path` does not take")
    own = [*flags.model, *flags.port, *flags.host, *flags.served]
    keys: dict[str, Any] = {"engine": found.engine, "path": absolute(model, folder)}
    context, slots = number(found.value(flags.context)), number(found.value(flags.slots))
    if context and slots and context % slots == 0:
        keys |= {"context": context // slots, "slots": slots}
        own += [*flags.context, *flags.slots]
    args = without(found.args, own)
    if found.engine == "vllm" and args[:1] == [model]:
        args = args[1:]
    if found.served_name and found.served_name != name:
        keys["served_name"] = found.served_name
    if args:
        keys["args"] = [absolute(word, folder) if word.startswith(("./", "../")) else word for word in args]
    return keys


def without(args: Words, names: Sequence[str]) -> list[str]:
    """The arguments without these flags and their values."""
    kept: list[str] = []
    skip = False
    for word in args:
        if skip:
            skip = False
        elif word in names:
            skip = True
        elif word and not any(name.startswith("--") and word.startswith(f"{name}=") for name in names):
            kept.append(word)
    return kept


def absolute(path: str, folder: str | None) -> str:
    """A path as it was meant by a command run in `folder`. Raises CannotTellError if that is not known."""
    if path.startswith(("/", "~/")):
        return path
    if folder is None:
        raise CannotTellError(f"{path} is relative, and to which folder is not known")
    return os.path.normpath(os.path.join(folder, path))  # noqa: PTH118 - `..` goes away without looking at the disk


def program_of(found: Server, folder: str | None, venv: str | None) -> str | None:
    """The program as our `engines:` has it: llama-server itself, the Python of an engine; None: found on PATH."""
    program = found.program
    if found.engine == "llamacpp":
        return absolute(program, folder) if "/" in program else None
    if _name(program) == "vllm" and "/" in program:
        return str(PurePosixPath(absolute(program, folder)).with_name("python"))
    if "/" in program:
        return absolute(program, folder)
    return f"{venv}/bin/python" if venv else None


def _is_python(program: str) -> bool:
    return _name(program).startswith("python")


def _name(program: str) -> str:
    return PurePosixPath(program).name
