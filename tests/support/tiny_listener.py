"""A tiny chat model each of whose words depends on all that was said before: what a wrong cache would betray.

The other tiny model (`gguf_files.write_tiny_chat`) says its sentence whatever its cache holds. This one has random weights
and sharp attention, so its answers look like `k W b b q` and become other ones when a token of the context changes. It
speaks single letters with a blank before them, which it also reads as one token each: an answer that is sent back is
made of the very tokens that were generated.
"""

from __future__ import annotations

import string
from pathlib import Path

import gguf
import numpy as np

from tests.support.gguf_files import (
    BEGIN,
    CHAT_TEMPLATE,
    IM_END,
    SPECIALS,
    UNKNOWN,
    _chat_vocabulary,
    _finish,
)

LETTERS = list(string.ascii_letters)
WIDTH, HEAD, FORWARD, LAYERS = 128, 64, 128, 6
"""Six layers: with gemma3's pattern the last one sees everything, the others their window."""
BYTES_PER_TOKEN = LAYERS * 2 * HEAD * 2
"""Of the KV cache in f16, where all layers keep everything."""
LEAD = 4.0
"""What each token has in the first dimension, which no layer changes: it lifts letters above all other tokens."""


def write_tiny_listener(path: Path | str, seed: int, *, window: int | None = None, context: int = 8192) -> Path:
    """Writes a model (1 MB) of the llama architecture, or with a sliding `window` (tokens) of gemma3's."""
    architecture = "gemma3" if window else "llama"
    tokens, types, scores = _chat_vocabulary(LETTERS)
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name(Path(path).stem)
    writer.add_license("CC0-1.0")
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FORWARD)
    writer.add_head_count(WIDTH // HEAD)
    writer.add_head_count_kv(1)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if window:
        writer.add_sliding_window(window)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(IM_END)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    writer.add_chat_template(CHAT_TEMPLATE)
    _tensors(writer, len(tokens), np.random.default_rng(seed), gemma=bool(window))
    return _finish(writer, path)


def _tensors(writer: gguf.GGUFWriter, vocabulary: int, noise: np.random.Generator, *, gemma: bool) -> None:
    def random(rows: int, columns: int, scale: float = 1.0) -> np.ndarray:
        return (noise.standard_normal((rows, columns)) * scale).astype(np.float32)

    def add(name: str, values: np.ndarray, *, keeps_lead: bool = False) -> None:
        if keeps_lead:
            values[0] = 0.0
        writer.add_tensor(f"{name}.weight", values)

    def flat(size: int, value: float = 1.0) -> np.ndarray:
        return np.full(size, value, np.float32)

    even = WIDTH**-0.5
    embedding = random(vocabulary, WIDTH)
    embedding[:, 0] = LEAD
    add("token_embd", embedding * np.float32(even) if gemma else embedding)  # gemma multiplies by sqrt(width)
    output, first = np.zeros((vocabulary, WIDTH), np.float32), len(SPECIALS) + 256
    output[first : first + len(LETTERS)] = random(len(LETTERS), WIDTH, 0.3)
    output[first : first + len(LETTERS), 0] = 10.0
    add("output", output)
    add("output_norm", flat(WIDTH))
    # Queries and keys of about 2 in each number: scores that differ by some units, so attention chooses.
    sharp = 1.0 if gemma else 2.0
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm", *(("post_attention_norm", "post_ffw_norm") if gemma else ())):
            add(block + name, flat(WIDTH))
        if gemma:
            add(block + "attn_q_norm", flat(HEAD, 2.0))
            add(block + "attn_k_norm", flat(HEAD, 2.0))
        add(block + "attn_q", random(WIDTH, WIDTH, even * sharp))
        add(block + "attn_k", random(HEAD, WIDTH, even * sharp))
        add(block + "attn_v", random(HEAD, WIDTH, even))
        add(block + "attn_output", random(WIDTH, WIDTH, even), keeps_lead=True)
        add(block + "ffn_gate", random(FORWARD, WIDTH, even))
        add(block + "ffn_up", random(FORWARD, WIDTH, even))
        add(block + "ffn_down", random(WIDTH, FORWARD, even), keeps_lead=True)
