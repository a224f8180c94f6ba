"""GGUF files with the caches of published models: their layers, key heads, lengths and windows, and little else.

Embeddings, feed-forward parts and vocabularies are shrunk, weights are zeros in a sparse file, so that a real
llama-server loads them in no time. Tensors are those that `src/models` of llama.cpp asks for. Figures of models are
those of their published config.json or GGUF files, as far as a cache depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np

from tests.support.gguf_files import BEGIN, IM_END, UNKNOWN, _chat_vocabulary

FORWARD = 32
Tensors = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Shape:
    """What is written: keys below the architecture's name, and the tensors of each layer."""

    architecture: str
    keys: Mapping[str, Any]
    layer: Callable[[Shape, int], Tensors]
    around: Callable[[Shape, int], Tensors] = lambda _shape, _vocabulary: iter(())

    def __getitem__(self, key: str) -> Any:
        return self.keys[key]

    def at(self, key: str, layer: int) -> int:
        value = self.keys[key]
        return value[layer] if isinstance(value, list) else value


def write(path: Path, shape: Shape) -> Path:
    """Writes the file: a whole header, and a hole for the weights."""
    tokens, types, scores = _chat_vocabulary(["a"])
    writer = gguf.GGUFWriter(str(path), shape.architecture)
    for key, value in {"context_length": 131072, "vocab_size": len(tokens), **shape.keys}.items():
        _add(writer, f"{shape.architecture}.{key}", value)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(IM_END)
    writer.add_unk_token_id(UNKNOWN)
    end = 0
    for name, dimensions in _tensors(shape, len(tokens)):
        size = math.prod(dimensions) * 4
        writer.add_tensor_info(name, dimensions[::-1], np.dtype(np.float32), size)
        end = -(-end // 32) * 32 + size
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    begin = -(-path.stat().st_size // 32) * 32
    with path.open("r+b") as file:
        file.truncate(begin + end)
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)


def _tensors(shape: Shape, vocabulary: int) -> Tensors:
    width = shape["embedding_length"]
    yield "token_embd.weight", (width, vocabulary)
    yield "token_embd_norm.weight" if shape.architecture == "lfm2" else "output_norm.weight", (width,)
    yield from shape.around(shape, vocabulary)
    for layer in range(shape["block_count"]):
        for name, dimensions in shape.layer(shape, layer):
            yield f"blk.{layer}.{name}", dimensions


def _keys(
    layers: int, heads: int, heads_kv: int | list[int], length: int, width: int = 64, **more: Any
) -> dict[str, Any]:
    """`more` names keys with `__` for a dot."""
    return {
        "block_count": layers,
        "embedding_length": width,
        "feed_forward_length": FORWARD,
        "attention.head_count": heads,
        "attention.head_count_kv": heads_kv,
        "attention.key_length": length,
        "attention.value_length": length,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": length,
        **{key.replace("__", "."): value for key, value in more.items()},
    }


def _attention(shape: Shape, layer: int, *, queries: int = 1) -> Tensors:
    width, heads, heads_kv = (
        shape["embedding_length"],
        shape["attention.head_count"],
        shape.at("attention.head_count_kv", layer),
    )
    key, value = shape["attention.key_length"], shape["attention.value_length"]
    yield "attn_norm.weight", (width,)
    yield "attn_q.weight", (width, heads * key * queries)
    yield "attn_k.weight", (width, heads_kv * key)
    yield "attn_v.weight", (width, heads_kv * value)
    yield "attn_output.weight", (heads * key, width)


def _forward(shape: Shape) -> Tensors:
    width = shape["embedding_length"]
    yield "ffn_norm.weight", (width,)
    yield "ffn_gate.weight", (width, FORWARD)
    yield "ffn_up.weight", (width, FORWARD)
    yield "ffn_down.weight", (FORWARD, width)


def _experts(shape: Shape, *, shared: bool = False) -> Tensors:
    width, count = shape["embedding_length"], shape["expert_count"]
    yield "ffn_gate_inp.weight", (width, count)
    yield "ffn_gate_exps.weight", (width, FORWARD, count)
    yield "ffn_up_exps.weight", (width, FORWARD, count)
    yield "ffn_down_exps.weight", (FORWARD, width, count)
    if shared:
        yield "ffn_gate_shexp.weight", (width, FORWARD)
        yield "ffn_up_shexp.weight", (width, FORWARD)
        yield "ffn_down_shexp.weight", (FORWARD, width)


EXPERTS: Mapping[str, Any] = MappingProxyType({
    "expert_count": 2, "expert_used_count": 1, "expert_feed_forward_length": FORWARD,
    "expert_shared_feed_forward_length": FORWARD, "expert_shared_count": 1,
})  # fmt: skip


def _head_norms(shape: Shape) -> Tensors:
    for name in ("attn_q_norm.weight", "attn_k_norm.weight"):
        yield name, (shape["attention.key_length"],)


def _plain(shape: Shape, layer: int) -> Tensors:
    yield from _attention(shape, layer)
    yield from _forward(shape)


def _qwen3(shape: Shape, layer: int) -> Tensors:
    yield from _attention(shape, layer)
    yield from _head_norms(shape)
    yield from _forward(shape)


def _qwen3_moe(shape: Shape, layer: int) -> Tensors:
    yield from _attention(shape, layer)
    yield from _head_norms(shape)
    yield "ffn_norm.weight", (shape["embedding_length"],)
    yield from _experts(shape)


def _gemma2(shape: Shape, layer: int) -> Tensors:
    yield from _plain(shape, layer)
    yield "post_attention_norm.weight", (shape["embedding_length"],)
    yield "post_ffw_norm.weight", (shape["embedding_length"],)


def _gemma3(shape: Shape, layer: int) -> Tensors:
    yield from _gemma2(shape, layer)
    yield from _head_norms(shape)


def _gemma3n(shape: Shape, layer: int) -> Tensors:
    width = shape["embedding_length"]
    yield from _gemma3(shape, layer)
    yield "inp_gate.weight", (width, 256)
    yield "proj.weight", (256, width)
    for name in (
        "post_norm.weight",
        "altup_correct_scale.weight",
        "altup_router_norm.weight",
        "laurel_post_norm.weight",
    ):
        yield name, (width,)
    yield "altup_correct_coef.weight", (4, 4)
    yield "altup_predict_coef.weight", (4, 16)
    yield "altup_router.weight", (width, 4)
    yield "laurel_l.weight", (width, 64)
    yield "laurel_r.weight", (64, width)


def _gemma3n_around(shape: Shape, vocabulary: int) -> Tensors:
    width, layers = shape["embedding_length"], shape["block_count"]
    yield "altup_proj.weight", (width, width, 3)
    yield "altup_unembd_proj.weight", (width, width, 3)
    yield "per_layer_token_embd.weight", (256 * layers, vocabulary)
    yield "per_layer_model_proj.weight", (width, 256 * layers)
    yield "per_layer_proj_norm.weight", (256,)


def _gemma4(shape: Shape, layer: int) -> Tensors:
    width, heads, heads_kv = (
        shape["embedding_length"],
        shape["attention.head_count"],
        shape.at("attention.head_count_kv", layer),
    )
    slides = shape["attention.sliding_window_pattern"][layer]
    key = shape["attention.key_length_swa" if slides else "attention.key_length"]
    yield "attn_norm.weight", (width,)
    yield "attn_q.weight", (width, heads * key)
    yield "attn_k.weight", (width, heads_kv * key)
    yield "attn_v.weight", (width, heads_kv * key)
    yield "attn_output.weight", (heads * key, width)
    yield "attn_q_norm.weight", (key,)
    yield "attn_k_norm.weight", (key,)
    yield "post_attention_norm.weight", (width,)
    yield from _forward(shape)
    yield "post_ffw_norm.weight", (width,)


def _gemma4_around(shape: Shape, _vocabulary: int) -> Tensors:
    yield "rope_freqs.weight", (shape["attention.key_length"] // 2,)


def _gpt_oss(shape: Shape, layer: int) -> Tensors:
    width, count = shape["embedding_length"], shape["expert_count"]
    yield from _attention(shape, layer)
    yield "attn_output.bias", (width,)
    yield "post_attention_norm.weight", (width,)
    yield "attn_sinks.weight", (shape["attention.head_count"],)
    yield from _experts(shape)
    yield "ffn_gate_inp.bias", (count,)
    yield "ffn_gate_exps.bias", (FORWARD, count)
    yield "ffn_up_exps.bias", (FORWARD, count)
    yield "ffn_down_exps.bias", (width, count)


def _phi3(shape: Shape, layer: int) -> Tensors:
    width = shape["embedding_length"]
    yield from _attention(shape, layer)
    yield "ffn_norm.weight", (width,)
    yield "ffn_up.weight", (width, 2 * FORWARD)
    yield "ffn_down.weight", (FORWARD, width)


def _glm4(shape: Shape, layer: int) -> Tensors:
    yield from _phi3(shape, layer)
    yield "post_attention_norm.weight", (shape["embedding_length"],)
    yield "post_ffw_norm.weight", (shape["embedding_length"],)


def _cohere2(shape: Shape, layer: int) -> Tensors:
    yield from _attention(shape, layer)
    yield from list(_forward(shape))[1:]


def _deepseek2(shape: Shape, layer: int) -> Tensors:
    width, heads, rank, turned = (
        shape[key]
        for key in ("embedding_length", "attention.head_count", "attention.kv_lora_rank", "rope.dimension_count")
    )
    latent = "attention.key_length_mla" in shape.keys
    key, value = (shape[f"attention.{part}_length{'_mla' if latent else ''}"] for part in ("key", "value"))
    yield "attn_norm.weight", (width,)
    yield "attn_kv_a_norm.weight", (rank,)
    if inner := shape.keys.get("attention.q_lora_rank"):
        yield "attn_q_a_norm.weight", (inner,)
        yield "attn_q_a.weight", (width, inner)
        yield "attn_q_b.weight", (inner, heads * key)
    else:
        yield "attn_q.weight", (width, heads * key)
    yield "attn_kv_a_mqa.weight", (width, rank + turned)
    if latent:
        yield "attn_k_b.weight", (key - turned, rank, heads)
        yield "attn_v_b.weight", (rank, value, heads)
    else:
        yield "attn_kv_b.weight", (rank, heads * (key - turned + value))
    yield "attn_output.weight", (heads * value, width)
    if layer < shape["leading_dense_block_count"]:
        yield from _forward(shape)
    else:
        yield "ffn_norm.weight", (width,)
        yield from _experts(shape, shared=True)


def _delta_net(shape: Shape, layer: int) -> Tensors:
    """Qwen3-Next and 3.5: every fourth layer has attention."""
    width = shape["embedding_length"]
    keys, values = shape["ssm.state_size"] * shape["ssm.group_count"], shape["ssm.inner_size"]
    ranks = shape["ssm.time_step_rank"]
    if (layer + 1) % 4 == 0:
        yield from _attention(shape, layer, queries=2)
        yield from _head_norms(shape)
    else:
        yield "attn_norm.weight", (width,)
        yield "attn_qkv.weight", (width, 2 * keys + values)
        yield "attn_gate.weight", (width, values)
        yield "ssm_conv1d.weight", (shape["ssm.conv_kernel"], 2 * keys + values)
        yield "ssm_dt.bias", (ranks,)
        yield "ssm_a", (ranks,)
        if shape.architecture == "qwen3next":
            yield "ssm_ba.weight", (width, 2 * ranks)
        else:
            yield "ssm_beta.weight", (width, ranks)
            yield "ssm_alpha.weight", (width, ranks)
        yield "ssm_norm.weight", (shape["ssm.state_size"],)
        yield "ssm_out.weight", (values, width)
    yield "post_attention_norm.weight", (width,)
    if shape.architecture == "qwen3next":
        yield from _experts(shape, shared=True)
        yield "ffn_gate_inp_shexp.weight", (width,)
    else:
        yield from list(_forward(shape))[1:]


def _lfm2(shape: Shape, layer: int) -> Tensors:
    width = shape["embedding_length"]
    if shape.at("attention.head_count_kv", layer):
        yield from _attention(shape, layer)
        yield from _head_norms(shape)
    else:
        yield "attn_norm.weight", (width,)
        yield "shortconv.conv.weight", (shape["shortconv.l_cache"], width)
        yield "shortconv.in_proj.weight", (width, 3 * width)
        yield "shortconv.out_proj.weight", (width, width)
    yield from _forward(shape)


def _mamba2(shape: Shape, _layer: int, *, bias: bool = True) -> Tensors:
    width, inner, state, groups, ranks, kernel = (
        shape[key] for key in (
            "embedding_length", "ssm.inner_size", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank",
            "ssm.conv_kernel",
        )
    )  # fmt: skip
    turned = inner + 2 * groups * state
    yield "ssm_in.weight", (width, inner + turned + ranks)
    yield "ssm_conv1d.weight", (kernel, turned)
    if bias:
        yield "ssm_conv1d.bias", (turned,)
    yield "ssm_dt.bias", (ranks,)
    yield "ssm_a", (1, ranks)
    yield "ssm_d", (1, ranks)
    yield "ssm_norm.weight", (inner // groups, groups)
    yield "ssm_out.weight", (inner, width)


def _mamba2_alone(shape: Shape, layer: int) -> Tensors:
    yield "attn_norm.weight", (shape["embedding_length"],)
    yield from _mamba2(shape, layer)


def _granite_hybrid(shape: Shape, layer: int) -> Tensors:
    if shape.at("attention.head_count_kv", layer):
        yield from _attention(shape, layer)
    else:
        yield from _mamba2_alone(shape, layer)
    yield from _forward(shape)


def _falcon_h1(shape: Shape, layer: int) -> Tensors:
    yield from _attention(shape, layer)
    yield from _mamba2(shape, layer)
    for name, dimensions in _forward(shape):
        yield name.replace("ffn_norm.weight", "ffn_norm"), dimensions


def _llama4(shape: Shape, layer: int) -> Tensors:
    yield from _attention(shape, layer)
    yield "ffn_norm.weight", (shape["embedding_length"],)
    yield from _experts(shape, shared=True)


def _output(shape: Shape, vocabulary: int) -> Tensors:
    yield "output.weight", (shape["embedding_length"], vocabulary)


def _mla(layers: int, **more: Any) -> dict[str, Any]:
    plain = _keys(layers, 4, 1, 576, attention__kv_lora_rank=512, leading_dense_block_count=1, **more)
    return {
        **plain, **EXPERTS, "attention.value_length": 512, "attention.key_length_mla": 192,
        "attention.value_length_mla": 128, "rope.dimension_count": 64,
    }  # fmt: skip


def _state(kernel: int, inner: int, state: int, groups: int, ranks: int) -> dict[str, int]:
    return {
        "ssm.conv_kernel": kernel, "ssm.inner_size": inner, "ssm.state_size": state, "ssm.group_count": groups,
        "ssm.time_step_rank": ranks,
    }  # fmt: skip


def _every(count: int, period: int) -> list[bool]:
    return [layer % period < period - 1 for layer in range(count)]


SHAPES: Mapping[str, Shape] = MappingProxyType({
    "llama-3.1-8b": Shape("llama", _keys(32, 8, 8, 128), _plain),
    "smollm2-135m": Shape("llama", _keys(30, 9, 3, 64), _plain),
    "mistral-small-24b": Shape("llama", _keys(40, 8, 8, 128, attention__sliding_window=4096), _plain),
    "ministral-3-3b": Shape("mistral3", _keys(26, 8, 8, 128), _plain),
    "qwen2.5-7b": Shape("qwen2", _keys(28, 4, 4, 128, 512), _plain),
    "qwen3-8b": Shape("qwen3", _keys(36, 8, 8, 128), _qwen3),
    "qwen3-30b-a3b": Shape("qwen3moe", {**_keys(48, 4, 4, 128), **EXPERTS}, _qwen3_moe),
    "gemma-2-2b": Shape("gemma2", _keys(26, 8, 4, 256, attention__sliding_window=4096), _gemma2),
    "gemma-2-2b-unsaid": Shape("gemma2", _keys(26, 8, 4, 256), _gemma2),
    "gemma-3-270m": Shape("gemma3", _keys(18, 4, 1, 256, attention__sliding_window=512), _gemma3),
    "gemma-3-4b": Shape("gemma3", _keys(34, 8, 4, 256, attention__sliding_window=1024), _gemma3),
    "gemma-3-27b": Shape("gemma3", _keys(62, 16, 16, 128, attention__sliding_window=1024), _gemma3),
    "gemma-3-own-period": Shape(
        "gemma3",
        _keys(12, 4, 1, 256, attention__sliding_window=512, attention__sliding_window_pattern=3),
        _gemma3,
    ),
    "gemma-3n-e4b": Shape(
        "gemma3n",
        _keys(
            35, 8, 2, 256, attention__sliding_window=512, attention__sliding_window_pattern=_every(35, 4),
            embedding_length_per_layer_input=256,
        ),
        _gemma3n,
        _gemma3n_around,
    ),
    "gemma-4": Shape(
        "gemma4",
        _keys(
            42, 8, 2, 512, attention__sliding_window=512, attention__sliding_window_pattern=_every(42, 6),
            attention__shared_kv_layers=18, attention__key_length_swa=256, attention__value_length_swa=256,
            embedding_length_per_layer_input=0, rope__dimension_count_swa=256,
        ),
        _gemma4,
        _gemma4_around,
    ),
    "gpt-oss-20b": Shape(
        "gpt-oss", {**_keys(24, 8, 8, 64, attention__sliding_window=128), **EXPERTS}, _gpt_oss, _output
    ),
    "phi-3-mini-4k": Shape("phi3", _keys(32, 4, 4, 96, 384, attention__sliding_window=2047), _phi3),
    "deepseek-v2-lite": Shape("deepseek2", _mla(27), _deepseek2),
    "deepseek-v2-lite-old": Shape(
        "deepseek2",
        {
            **_keys(27, 4, 4, 192, attention__kv_lora_rank=512, leading_dense_block_count=1), **EXPERTS,
            "attention.value_length": 128, "rope.dimension_count": 64,
        },
        _deepseek2,
    ),
    "deepseek-v3": Shape("deepseek2", _mla(61, attention__q_lora_rank=96), _deepseek2),
    "glm-4-9b": Shape("glm4", _keys(40, 4, 2, 128), _glm4),
    "qwen3-next-80b-a3b": Shape(
        "qwen3next", {**_keys(48, 2, 2, 256), **EXPERTS, **_state(4, 4096, 128, 16, 32)}, _delta_net
    ),
    "qwen3.5-0.8b": Shape(
        "qwen35",
        {**_keys(24, 2, 2, 256), **_state(4, 2048, 128, 16, 16), "rope.dimension_sections": [11, 11, 10, 0]},
        _delta_net,
    ),
    "lfm2-1.2b": Shape(
        "lfm2",
        _keys(16, 8, [0, 0, 8, 0, 0, 8, 0, 0, 8, 0, 8, 0, 8, 0, 8, 0], 64, 512, shortconv__l_cache=3),
        _lfm2,
    ),
    "granite-4.0-h-tiny": Shape(
        "granitehybrid",
        {
            **_keys(40, 4, [4 if layer % 10 == 5 else 0 for layer in range(40)], 128, 192),
            **_state(4, 384, 128, 1, 6),
        },
        _granite_hybrid,
    ),
    "falcon-h1-0.5b": Shape("falcon-h1", {**_keys(36, 8, 2, 64), **_state(4, 1536, 128, 1, 24)}, _falcon_h1),
    "mamba2-130m": Shape("mamba2", {**_keys(24, 0, 0, 0), **_state(4, 1536, 128, 1, 24)}, _mamba2_alone),
    "command-r7b": Shape(
        "cohere2",
        _keys(
            32, 4, 4, 128, 512, attention__sliding_window=4096, attention__layer_norm_epsilon=1e-5, logit_scale=0.25
        ),
        _cohere2,
    ),
    "llama-4-scout-8-layers": Shape(
        "llama4", {**_keys(8, 8, 8, 128, interleave_moe_layer_step=1), **EXPERTS}, _llama4
    ),
})  # fmt: skip
"""By the model whose cache they have; `gemma-4`, and those with a suffix, show a rule of the format."""
