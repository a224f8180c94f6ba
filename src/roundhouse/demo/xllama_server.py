"""A `llama-server` made of the xllamacpp package, for processors that no prebuilt llama-server runs on.

xllamacpp holds llama.cpp's HTTP server as a library, without a command line: this gives it the flags of llama-server
that our engine description uses, and its way of ending. It knows nothing of Roundhouse and is run as a program of its
own: `python -m roundhouse.demo.xllama_server -m model.gguf --port 8080`. Facts are of xllamacpp 2026.10.11549.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xllamacpp

PACKAGE = "xllamacpp"


class Parser(argparse.ArgumentParser):
    """Speaks as llama-server does: one flag a line in --help, and one line for what is wrong."""

    def format_help(self) -> str:
        """Flags as llama-server lists them: synonyms first, separated by commas, from the first column on."""
        lines = [f"{', '.join(action.option_strings):40}{action.help}" for action in self._actions]
        return "\n".join(lines) + "\n"

    def error(self, message: str) -> NoReturn:
        """Exit code 1, as llama-server."""
        self.exit(1, f"error: {message}\n")


def parser() -> Parser:
    """The flags known here: those of llama-server that our description of it passes, and a few of people's own."""
    known = Parser(prog="xllama-server", allow_abbrev=False)
    text, number = known.add_argument, partial(known.add_argument, type=int)
    text("-m", "--model", required=True, help="model file")
    text("--host", default="127.0.0.1", help="address to listen on")
    number("--port", default=8080, help="port to listen on")
    text("-a", "--alias", help="name the model is served under")
    number("-c", "--ctx-size", default=0, help="tokens of context in all, 0: as trained")
    number("-np", "--parallel", default=-1, help="slots, -1: automatic")
    number("-b", "--batch-size", help="logical batch size")
    number("-ub", "--ubatch-size", help="physical batch size")
    number("-t", "--threads", help="threads")
    number("-ngl", "--gpu-layers", "--n-gpu-layers", help="layers in GPU memory")
    text("-fit", "--fit", choices=("on", "off"), default="on", help="adjust what is not set to the memory there is")
    text("-ctk", "--cache-type-k", help="type of the keys in the KV cache")
    text("-ctv", "--cache-type-v", help="type of the values in the KV cache")
    text("-mm", "--mmproj", help="vision projector file")
    text("--chat-template", help="chat template, Jinja")
    text("--chat-template-file", type=Path, help="file with a chat template")
    text("--cors-origins", help="origins that browsers may call from")
    text("--slot-save-path", help="folder for saved slots")
    for names, words in SWITCHES:
        text(*names, action="store_true", help=words)
    text("--version", action="version", version=_version(), help="show the version")
    return known


SWITCHES = (
    (("--jinja",), "use the Jinja template engine (always)"),
    (("--embedding", "--embeddings"), "embeddings only"),
    (("--rerank", "--reranking"), "rerank endpoint"),
    (("--no-warmup",), "no run on empty input after loading"),
    (("--no-repack",), "leave weights in the layout of the file"),
    (("--swa-full",), "full-size cache for sliding-window layers"),
    (("-kvu", "--kv-unified"), "one KV cache shared by all slots"),
    (("--metrics",), "Prometheus metrics"),
    (("--no-ui", "--no-webui"), "no web page"),
)


def _version() -> str:
    try:
        return f"version: xllamacpp {importlib.metadata.version(PACKAGE)}"
    except importlib.metadata.PackageNotFoundError:
        return "version: xllamacpp is not installed"


def params(wanted: argparse.Namespace) -> xllamacpp.CommonParams:
    """The parameters that a command line stands for; what it does not say keeps llama.cpp's default."""
    import xllamacpp  # noqa: PLC0415 - loads 100 MB: --help and --version do without it

    made = xllamacpp.CommonParams()
    made.model.path = wanted.model
    made.hostnames, made.port = [wanted.host], wanted.port
    made.n_ctx, made.n_parallel = wanted.ctx_size, wanted.parallel
    made.fit_params, made.warmup = wanted.fit == "on", not wanted.no_warmup
    made.no_extra_bufts, made.swa_full = wanted.no_repack, wanted.swa_full
    made.endpoint_metrics, made.ui, made.use_jinja = wanted.metrics, not wanted.no_ui, True
    made.embedding = wanted.embedding or wanted.rerank
    if wanted.rerank:
        made.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    for name in ("cache_type_k", "cache_type_v"):
        if chosen := getattr(wanted, name):
            setattr(made, name, getattr(xllamacpp.ggml_type, f"GGML_TYPE_{chosen.upper()}"))
    for name, value in _said(wanted).items():
        setattr(made, name, value)
    if wanted.mmproj:
        made.mmproj.path = wanted.mmproj
    if wanted.threads:
        made.cpuparams.n_threads = wanted.threads
    return made


def _said(wanted: argparse.Namespace) -> dict[str, object]:
    """Parameters that take a value as it is, of those the command line names."""
    template = wanted.chat_template_file.read_text("utf-8") if wanted.chat_template_file else wanted.chat_template
    values = {
        "model_alias": {wanted.alias} if wanted.alias else None,
        "n_batch": wanted.batch_size,
        "n_ubatch": wanted.ubatch_size,
        "n_gpu_layers": wanted.gpu_layers,
        "kv_unified": wanted.kv_unified or None,
        "chat_template": template,
        "cors_origins": wanted.cors_origins,
        # llama.cpp puts a file's name right behind it; its own command line sees to the slash.
        "slot_save_path": f"{wanted.slot_save_path.rstrip('/')}/" if wanted.slot_save_path else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def leave(_number: int, _frame: object) -> NoReturn:
    """Ends at once: an engine keeps nothing, and llama.cpp's own end waits up to 30 s for open streams."""
    os._exit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT. Returns 1 when the model can't be served; llama.cpp has said why on stderr."""
    import xllamacpp  # noqa: PLC0415 - see `params`

    wanted = parser().parse_args(arguments)
    # Loading holds the interpreter, so a Python handler would not run before its end: until then the signals kill.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        server = xllamacpp.Server(params(wanted))
    except (RuntimeError, OSError, ValueError, AttributeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    while server.listening_address:
        signal.pause()
    return 1


if __name__ == "__main__":
    sys.exit(main())
