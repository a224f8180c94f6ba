"""Small GGUF files for tests: deterministic, a few MB or less, accepted by a real llama-server.

The tiny chat model always says its sentence: attention and feed-forward are zero, so the next token depends on the last
one alone and the output is known in advance. The tiny embedding model has no meaning, only the right shape.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

SENTENCE = "I am alpha , a tiny test model that always says exactly this sentence ."
SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
UNKNOWN, BEGIN, END_OF_TEXT, IM_START, IM_END = range(5)
NORMAL, UNK, CONTROL, UNUSED, BYTE = 1, 2, 3, 5, 6
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


CAPABLE_TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['reasoning_content'] %}{{ '<think>\n' + m['reasoning_content'] + '\n</think>\n\n' }}{% endif %}"
    "{{ (m['content'] or '') + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
"""Tells of tools, and has thoughts apart; for models that are held to a structure, too (see `write_tiny_chat`)."""


def write_tiny_chat(
    path: Path | str,
    name: str,
    sentence: str = SENTENCE,
    n_ctx: int = 8192,
    n_layer: int = 2,
    template: str = CHAT_TEMPLATE,
) -> Path:
    """Writes a llama-architecture chat model (about 3 MB) that answers anything with `sentence`, then ends.

    Words of the sentence are separated by blanks and each occurs once (a word's successor is all the model knows). Its
    tokenizer puts a blank before a text, but for `CAPABLE_TEMPLATE`: llama.cpp checks a template's beginning of the answer
    against the grammar of a structure, and a blank is not in it.
    """
    words = sentence.split()
    if len(set(words)) != len(words):
        raise ValueError("each word of the sentence may occur once")
    tokens, types, scores = _chat_vocabulary(words)
    width = max(256, _round_up(len(tokens), 64))
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(name)
    writer.add_license("CC0-1.0")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(width)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(64)
    writer.add_head_count(width // 64)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(64)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(IM_END)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(template != CAPABLE_TEMPLATE)
    writer.add_chat_template(template)
    _chat_tensors(writer, len(tokens), width, n_layer, len(words))
    return _finish(writer, path)


def _chat_vocabulary(words: list[str]) -> tuple[list[str], list[int], list[float]]:
    known = SPECIALS + [f"<0x{i:02X}>" for i in range(256)]
    tokens = known + ["▁" + word for word in words]
    padding = _round_up(len(tokens), 32) - len(tokens)
    types = [UNK, CONTROL, CONTROL, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(words) + [UNUSED] * padding
    scores = [0.0] * len(known) + [-float(i + 1) for i in range(len(words))] + [-1000.0] * padding
    return tokens + [f"<pad{i}>" for i in range(padding)], types, scores


def _chat_tensors(writer: gguf.GGUFWriter, vocabulary: int, width: int, layers: int, words: int) -> None:
    first = len(SPECIALS) + 256
    successor = np.full(vocabulary, first)  # whatever is no word of the sentence starts it
    successor[first : first + words - 1] = np.arange(first + 1, first + words)
    successor[first + words - 1] = IM_END
    embedding = np.zeros((vocabulary, width), np.float32)
    embedding[np.arange(vocabulary), np.arange(vocabulary)] = 1.0
    output = np.zeros((vocabulary, width), np.float32)
    output[successor, np.arange(vocabulary)] = 10.0
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    noise = np.random.default_rng(0)

    def random(rows: int, columns: int) -> np.ndarray:
        return (noise.standard_normal((rows, columns)) * 0.02).astype(np.float32)

    for layer in range(layers):
        block = f"blk.{layer}."
        writer.add_tensor(block + "attn_norm.weight", np.ones(width, np.float32))
        writer.add_tensor(block + "ffn_norm.weight", np.ones(width, np.float32))
        writer.add_tensor(block + "attn_q.weight", random(width, width))
        writer.add_tensor(block + "attn_k.weight", random(64, width))
        writer.add_tensor(block + "attn_v.weight", random(64, width))
        writer.add_tensor(block + "attn_output.weight", np.zeros((width, width), np.float32))
        writer.add_tensor(block + "ffn_gate.weight", random(64, width))
        writer.add_tensor(block + "ffn_up.weight", random(64, width))
        writer.add_tensor(block + "ffn_down.weight", np.zeros((width, 64), np.float32))


def write_tiny_embedding(
    path: Path | str, name: str = "tiny-embedding", width: int = 64, n_layer: int = 1, *, ranks: bool = False
) -> Path:
    """Writes a BERT-architecture embedding model (a few hundred kB) of `width` dimensions with mean pooling.

    llama-server serves it with `--embeddings`, one that `ranks` with `--reranking`; lower-case letters are its whole
    vocabulary.
    """
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = specials + ["▁" + letter for letter in letters] + letters
    writer = gguf.GGUFWriter(str(path), "bert")
    writer.add_name(name)
    writer.add_license("CC0-1.0")
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK if ranks else gguf.PoolingType.MEAN)
    writer.add_token_type_count(2)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL] * len(specials) + [NORMAL] * (len(tokens) - len(specials)))
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_sep_token_id(3)
    writer.add_mask_token_id(4)
    _embedding_tensors(writer, len(tokens), width, n_layer, ranks=ranks)
    return _finish(writer, path)


def _embedding_tensors(writer: gguf.GGUFWriter, vocabulary: int, width: int, layers: int, *, ranks: bool) -> None:
    noise = np.random.default_rng(1)

    def linear(tensor: str, rows: int, columns: int) -> None:
        writer.add_tensor(f"{tensor}.weight", (noise.standard_normal((rows, columns)) * 0.1).astype(np.float32))
        writer.add_tensor(f"{tensor}.bias", np.zeros(rows, np.float32))

    def norm(tensor: str) -> None:
        writer.add_tensor(f"{tensor}.weight", np.ones(width, np.float32))
        writer.add_tensor(f"{tensor}.bias", np.zeros(width, np.float32))

    for tensor, rows in (("token_embd", vocabulary), ("position_embd", 512), ("token_types", 2)):
        writer.add_tensor(f"{tensor}.weight", (noise.standard_normal((rows, width)) * 0.1).astype(np.float32))
    norm("token_embd_norm")
    if ranks:
        linear("cls", width, width)
        linear("cls.output", 1, width)
    for layer in range(layers):
        block = f"blk.{layer}."
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            linear(block + part, width, width)
        norm(block + "attn_output_norm")
        linear(block + "ffn_up", 2 * width, width)
        linear(block + "ffn_down", width, 2 * width)
        norm(block + "layer_output_norm")


def _round_up(number: int, step: int) -> int:
    return (number + step - 1) // step * step


def _finish(writer: gguf.GGUFWriter, path: Path | str) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)
