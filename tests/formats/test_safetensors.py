"""config.json and weight headers as facts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.model import Kind
from roundhouse.formats import safetensors
from roundhouse.formats.errors import FormatError

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512, "intermediate_size": 1024,
    "num_attention_heads": 8, "num_hidden_layers": 3, "num_key_value_heads": 2, "max_position_embeddings": 4096,
    "vocab_size": 1000, "torch_dtype": "bfloat16",
}  # fmt: skip


def header(*sizes: int) -> tuple[bytes, int]:
    tensors: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for index, size in enumerate(sizes):
        tensors[f"t{index}"] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(tensors).encode()
    return raw, 8 + len(raw) + at


def facts(config, *headers: tuple[bytes, int], chat_template=False):
    return safetensors.facts(json.dumps(config).encode(), headers, chat_template=chat_template)


def test_facts_of_a_plain_folder():
    found = facts(LLAMA, header(100, 50), header(7), chat_template=True)
    assert (found.weights, found.context, found.quantisation, found.kind) == (157, 4096, "bfloat16", Kind.CHAT)
    assert (found.heads_kv, found.key_length, found.vocabulary, found.layers) == ((2, 2, 2), 64, 1000, 3)
    assert (found.architecture, found.chat_template, found.vision, found.format) == (
        "llama",
        True,
        False,
        "safetensors",
    )


def test_quantised_and_multimodal():
    config = {"architectures": ["XForConditionalGeneration"], "text_config": LLAMA, "vision_config": {},
              "quantization_config": {"quant_method": "awq", "bits": 4}}  # fmt: skip
    found = facts(config, header(4))
    assert (found.quantisation, found.vision, found.layers) == ("awq 4 bit", True, 3)


def test_sliding_layers():
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    assert facts(LLAMA | {"sliding_window": 128, "layer_types": kinds}).sliding == (True, False, True)
    assert facts(LLAMA | {"sliding_window": 128}).sliding == ()
    assert facts(LLAMA | {"sliding_window": None}).sliding == ()


def test_latent_attention_is_one_vector_a_token_except_where_keys_are_expanded():
    latent = LLAMA | {"kv_lora_rank": 256, "qk_rope_head_dim": 32, "qk_nope_head_dim": 64}
    found, expanded = facts(latent), facts(latent | {"model_type": "minicpm3"})
    assert (found.heads_kv, found.key_length, found.value_length) == ((1, 1, 1), 288, 0)
    assert (expanded.heads_kv, expanded.key_length, expanded.value_length) == ((8, 8, 8), 96, 96)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("BertModel", Kind.EMBEDDING), ("BertForMaskedLM", Kind.EMBEDDING), ("GPT2LMHeadModel", Kind.CHAT),
     ("XForSequenceClassification", Kind.RERANK), ("XForCausalLM", Kind.CHAT)],
)  # fmt: skip
def test_kind_by_class(name, kind):
    assert facts({"architectures": [name]}).kind is kind


def test_fingerprint_changes_with_config_header_and_size():
    raw, size = header(4)
    prints = {facts(LLAMA, (raw, size)).fingerprint, facts(LLAMA, (raw, size + 1)).fingerprint, facts(LLAMA).fingerprint,
              facts(LLAMA | {"x": 1}, (raw, size)).fingerprint}  # fmt: skip
    assert len(prints) == 4


def test_header_length():
    assert safetensors.header_length((50).to_bytes(8, "little"), 58) == 50
    for first, size in ((b"1234", 4), ((50).to_bytes(8, "little"), 57), (b"\xff" * 8, 100), (b"\0" * 8, 100)):
        with pytest.raises(FormatError):
            safetensors.header_length(first, size)


def test_cut_short():
    raw, size = header(100)
    with pytest.raises(FormatError, match="cut short"):
        safetensors.weights(raw, size - 1)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=8), st.binary(max_size=20))  # fmt: skip
def test_any_json_is_facts_or_a_format_error(value, raw):
    keys = [*LLAMA, "quantization_config", "text_config", "layer_types", "head_dim", "sliding_window"]
    for config in (value, *({**LLAMA, key: value} for key in keys)):
        try:
            facts(config, (json.dumps({"t": value}).encode(), 100))
            facts(config)
        except FormatError:
            continue
    for attempt in (lambda: safetensors.facts(raw, []), lambda: safetensors.weights(raw)):
        try:
            attempt()
        except FormatError:
            continue
