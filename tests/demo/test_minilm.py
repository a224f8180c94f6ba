import io
import json
import math
import struct

import gguf
import numpy as np
import pytest

from roundhouse.demo.minilm import convert

SETTINGS = {
    "vocab_size": 9,
    "max_position_embeddings": 16,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "layer_norm_eps": 1e-12,
}
VOCABULARY = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "train", "##s", "träume"]
LAYER = {
    "attention.self.query": (8, 8),
    "attention.self.key": (8, 8),
    "attention.self.value": (8, 8),
    "attention.output.dense": (8, 8),
    "attention.output.LayerNorm": (8,),
    "intermediate.dense": (12, 8),
    "output.dense": (8, 12),
    "output.LayerNorm": (8,),
}


def tensors() -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (9, 8),
        "embeddings.position_embeddings.weight": (16, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
        "embeddings.LayerNorm.weight": (8,),
        "embeddings.LayerNorm.bias": (8,),
        "pooler.dense.weight": (8, 8),  # not wanted
    }
    for layer in range(2):
        for name, shape in LAYER.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
    random = np.random.default_rng(1)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def safetensors(values: dict[str, np.ndarray], dtype: str = "F32") -> bytes:
    directory, data = {}, b""
    for name, value in values.items():
        raw = value.tobytes()
        directory[name] = {"dtype": dtype, "shape": value.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(directory).encode()
    return struct.pack("<Q", len(head)) + head + data


def convert_small(**changes: bytes) -> bytes:
    given = {
        "config": json.dumps(SETTINGS).encode(),
        "vocabulary": "\n".join(VOCABULARY).encode() + b"\n",
        "weights": safetensors(tensors()),
    }
    return b"".join(convert(**{**given, **changes}))


@pytest.fixture
def reader(tmp_path):
    file = tmp_path / "small.gguf"
    file.write_bytes(convert_small())
    return gguf.GGUFReader(file)


def test_another_reader_finds_every_tensor_with_its_values(reader):
    source = tensors()
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert len(found) == 5 + 2 * len(LAYER) * 2
    for ours, theirs, half in [
        ("token_embd.weight", "embeddings.word_embeddings.weight", True),
        ("position_embd.weight", "embeddings.position_embeddings.weight", False),
        ("blk.1.ffn_down.weight", "encoder.layer.1.output.dense.weight", True),
        ("blk.0.attn_output_norm.bias", "encoder.layer.0.attention.output.LayerNorm.bias", False),
    ]:
        tensor = found[ours]
        kind = np.float16 if half else np.float32
        assert tensor.tensor_type.name == ("F16" if half else "F32")
        assert tensor.shape.tolist() == list(source[theirs].shape[::-1])
        np.testing.assert_array_equal(
            np.asarray(tensor.data).reshape(source[theirs].shape), source[theirs].astype(kind)
        )


def test_the_settings_and_the_tokenizer_are_as_llama_cpp_wants_them(reader):
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "bert"
    assert fields["bert.block_count"] == 2
    assert fields["bert.feed_forward_length"] == 12
    assert fields["bert.attention.causal"] is False
    assert math.isclose(fields["bert.attention.layer_norm_epsilon"], 1e-12, rel_tol=1e-6)
    assert fields["tokenizer.ggml.tokens"] == [*VOCABULARY[:6], "▁train", "s", "▁träume"]
    assert fields["tokenizer.ggml.token_type"] == [3, 5, 3, 3, 3, 3, 1, 1, 1]
    assert fields["tokenizer.ggml.seperator_token_id"] == 4


def test_the_same_input_gives_the_same_bytes():
    assert convert_small() == convert_small()


def test_the_pieces_join_to_whole_blocks_of_the_alignment():
    assert len(convert_small()) % 32 == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocabulary": b"[PAD]\n"}, "the vocabulary has 1 tokens, the configuration says 9"),
        ({"weights": safetensors({})}, "the weights have no tensor embeddings.LayerNorm.bias"),
        ({"weights": safetensors(tensors(), "BF16")}, "BF16; only F32"),
    ],
)
def test_what_it_cannot_convert_is_named(changes, words):
    with pytest.raises(ValueError, match=words):
        convert_small(**changes)


def test_more_values_than_one_piece_holds_keep_their_order():
    values = tensors()
    values["embeddings.word_embeddings.weight"] = np.arange(9 * 8192, dtype=np.float32).reshape(9, 8192) / 64
    pieces = list(convert(json.dumps(SETTINGS).encode(), "\n".join(VOCABULARY).encode(), safetensors(values)))
    start = 1  # after the header
    joined = io.BytesIO(b"".join(pieces[start:]))
    first = np.frombuffer(joined.read(9 * 8192 * 2), np.float16)
    np.testing.assert_array_equal(first, values["embeddings.word_embeddings.weight"].ravel().astype(np.float16))
