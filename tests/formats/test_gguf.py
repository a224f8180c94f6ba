"""Our GGUF parser against the `gguf` package's writer and reader, and against damage."""

import io
import struct
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roundhouse.core.model import Kind
from roundhouse.formats import gguf as ours
from roundhouse.formats import gguf_header
from roundhouse.formats.errors import FormatError
from roundhouse.ports import ModelFacts
from tests.support.gguf_files import write_tiny_chat, write_tiny_embedding


def read(path: Path):
    with path.open("rb") as file:
        return ours.read(file, path.stat().st_size)


def read_bytes(raw: bytes, size: int | None = None):
    return ours.read(io.BytesIO(raw), len(raw) if size is None else size)


@pytest.fixture(scope="module")
def chat(tmp_path_factory) -> Path:
    return write_tiny_chat(tmp_path_factory.mktemp("gguf") / "chat.gguf", "alpha", n_ctx=4096, n_layer=3)


@pytest.fixture
def write(tmp_path):
    """Writes a file of the given architecture; keys are added by the callable."""

    def write(architecture, add, tensors=()):
        path = tmp_path / "x.gguf"
        writer = gguf.GGUFWriter(str(path), architecture)
        add(writer)
        for name, array, kind in tensors:
            writer.add_tensor(name, array, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


def test_facts_of_a_chat_model(chat):
    facts = read(chat)
    assert replace(facts, weights=0, fingerprint="", embedding=0, vocabulary=0, matrices={}) == ModelFacts(
        format="gguf", architecture="llama", name="alpha", context=4096, quantisation="F32", kind=Kind.CHAT, layers=3,
        feed_forward=64, heads_kv=(1, 1, 1), key_length=64, value_length=64,
        queries=320, chat_template=True,
    )  # fmt: skip
    reader = gguf.GGUFReader(chat)
    sizes = {tensor.name: int(tensor.n_bytes) for tensor in reader.tensors}
    assert facts.weights == sum(sizes.values())
    assert facts.matrices == {
        "F32": sum(size for name, size in sizes.items() if "norm" not in name and name != "token_embd.weight")
    }
    assert facts.vocabulary == len(reader.fields["tokenizer.ggml.tokens"].data)


def test_facts_of_an_embedding_model(tmp_path):
    facts = read(write_tiny_embedding(tmp_path / "e.gguf"))
    assert (facts.kind, facts.causal, facts.architecture, facts.embedding) == (Kind.EMBEDDING, False, "bert", 64)
    assert not facts.chat_template


@pytest.mark.parametrize(
    ("architecture", "pooling", "causal", "kind"),
    [
        ("llama", None, None, Kind.CHAT),
        ("llama", gguf.PoolingType.NONE, None, Kind.CHAT),
        ("qwen3", gguf.PoolingType.LAST, None, Kind.EMBEDDING),
        ("qwen3", gguf.PoolingType.RANK, None, Kind.RERANK),
        ("bert", gguf.PoolingType.RANK, False, Kind.RERANK),
        ("llama", None, False, Kind.EMBEDDING),
        ("nomic-bert", None, None, Kind.EMBEDDING),
        ("clip", None, None, None),
    ],
)
def test_kind_is_told_from_pooling_causality_and_architecture(write, architecture, pooling, causal, kind):
    def add(writer):
        if pooling is not None:
            writer.add_pooling_type(pooling)
        if causal is not None:
            writer.add_causal_attention(causal)

    assert read(write(architecture, add)).kind is kind


def test_an_adapter_is_no_model(write):
    assert read(write("llama", lambda writer: writer.add_type("adapter"))).kind is None


def test_a_projector_says_that_it_sees(write):
    facts = read(write("clip", lambda writer: writer.add_bool("clip.has_vision_encoder", True)))
    assert facts.vision


@pytest.mark.parametrize(
    ("architecture", "pattern", "expected"),
    [
        ("gemma3", None, (True, True, True, True, True, False, True)),
        ("gemma2", None, (True, False, True, False, True, False, True)),
        ("llama", [True, False], (True, False, False, False, False, False, False)),
        ("gemma3", 2, (True, False, True, False, True, False, True)),
    ],
)
def test_sliding_layers(write, architecture, pattern, expected):
    def add(writer):
        writer.add_block_count(7)
        writer.add_sliding_window(512)
        if isinstance(pattern, list):
            writer.add_array(f"{architecture}.attention.sliding_window_pattern", pattern)
        elif pattern:
            writer.add_uint32(f"{architecture}.attention.sliding_window_pattern", pattern)

    facts = read(write(architecture, add))
    assert (facts.window, facts.sliding) == (512, expected)


def test_a_window_that_llama_cpp_does_not_use_is_none(write):
    def add(writer):
        writer.add_block_count(7)
        writer.add_sliding_window(512)

    facts = read(write("llama", add))
    assert (facts.window, facts.sliding) == (0, ())


def test_weights_that_are_multiplied_with_are_told_by_type(write):
    matrix, stack = np.zeros((64, 32), np.float16), np.zeros((2, 64, 32), np.float16)
    tensors = [
        ("token_embd.weight", matrix, gguf.GGMLQuantizationType.F16),
        ("blk.0.ffn_up.weight", matrix, gguf.GGMLQuantizationType.F16),
        ("blk.0.ffn_up_exps.weight", stack, gguf.GGMLQuantizationType.F16),
        ("blk.0.attn_norm.weight", np.zeros(64, np.float32), gguf.GGMLQuantizationType.F32),
    ]
    facts = read(write("llama", lambda _writer: None, tensors))
    assert facts.matrices == {"F16": 2 * 4096}  # the table of tokens is the output's too
    assert facts.experts == {"F16": 8192}
    assert read(write("bert", lambda _writer: None, tensors)).matrices == {"F16": 4096}
    untied = read(write("llama", lambda _writer: None, [*tensors, ("output.weight", *tensors[0][1:])]))
    assert untied.matrices == {"F16": 2 * 4096}
    both = ours.merge([facts, untied])
    assert (both.matrices, both.experts) == ({"F16": 4 * 4096}, {"F16": 2 * 8192})


def test_figures_per_layer_and_head_lengths(write):
    def add(writer):
        writer.add_block_count(4)
        writer.add_embedding_length(1024)
        writer.add_head_count([8, 16, 16, 16])
        writer.add_head_count_kv([2, 0, 4, 4])
        writer.add_feed_forward_length([10, 30, 20, 20])
        writer.add_value_length(96)
        writer.add_vocab_size(77)

    facts = read(write("llama", add))
    assert (facts.heads_kv, facts.feed_forward, facts.key_length, facts.value_length) == ((2, 0, 4, 4), 30, 64, 96)
    assert facts.vocabulary == 77


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "Q4_K", "IQ4_NL", "MXFP4", "F16", "BF16"])
def test_weights_of_quantised_tensors(write, kind):
    quant = gguf.GGMLQuantizationType[kind]
    block, width = gguf.GGML_QUANT_SIZES[quant]
    row = 512 // block * width
    path = write("llama", lambda _: None, [("a", np.zeros((3, row), np.uint8), quant)])
    assert read(path).weights == 3 * row


def test_an_unknown_tensor_type_counts_by_the_files_size():
    info = text("t") + struct.pack("<IQIQ", 1, 64, 999, 0)
    raw = header(1, 0) + info
    raw += b"\0" * (-len(raw) % 32) + b"\0" * 100
    assert read_bytes(raw).weights == 100


def test_parts_are_merged(chat):
    facts = read(chat)
    later = replace(ModelFacts("gguf"), weights=5, fingerprint="x")
    whole = ours.merge([facts, later])
    assert (whole.weights, whole.name) == (facts.weights + 5, "alpha")
    assert whole.fingerprint not in {facts.fingerprint, later.fingerprint}
    assert ours.merge([facts]) == facts
    with pytest.raises(FormatError):
        ours.merge([])


def test_fingerprint_changes_with_the_header_and_with_the_size(chat, tmp_path):
    raw = chat.read_bytes()
    same, longer = read_bytes(raw).fingerprint, read_bytes(raw + b"\0").fingerprint
    renamed = read_bytes(raw.replace(b"alpha", b"bravo", 1)).fingerprint
    assert same == read(chat).fingerprint
    assert len({same, longer, renamed}) == 3


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def header(tensors: int, keys: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def strings(count: int, length: int) -> bytes:
    return header(0, 1) + text("k") + struct.pack("<IIQ", 9, 8, count) + text("x" * length) * count


@pytest.mark.parametrize(("count", "length"), [(0, 0), (300_000, 6), (3, 2 * 1024**2), (5, 1024**2 - 8), (200_000, 0)])
def test_long_token_arrays_are_passed_over_and_counted(count, length):
    raw = strings(count, length) + b""
    assert gguf_header.read(io.BytesIO(raw), len(raw)).keys == {"k": gguf_header.Skipped(count)}


def test_nested_and_long_number_arrays_are_counted():
    nested = struct.pack("<IIQ", 9, 9, 2) + struct.pack("<IQ2B", 0, 2, 7, 7) + struct.pack("<IQ", 8, 1) + text("x")
    long = struct.pack("<IIQ", 9, 4, 5000) + b"\0" * 20_000
    raw = header(0, 2) + text("a") + nested + text("b") + long
    assert gguf_header.read(io.BytesIO(raw), len(raw)).keys == {
        "a": gguf_header.Skipped(2), "b": gguf_header.Skipped(5000),
    }  # fmt: skip


def test_a_stream_that_gives_little_at_a_time_reads_the_same(chat):
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 1000))

    raw = chat.read_bytes()
    assert ours.read(Slow(raw), len(raw)) == read_bytes(raw)


def test_version_2_is_read(chat):
    raw = bytearray(chat.read_bytes())
    raw[4] = 2
    assert read_bytes(bytes(raw)).name == "alpha"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not a GGUF file"),
        (b"GG", "not a GGUF file"),
        (b"\x80\x02}q\x00" * 9, "not a GGUF file"),
        (b"GGUF", "cut short"),
        (header(0, 0, version=1), "version 1 GGUF"),
        (header(0, 0, version=99), "version 99 GGUF"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian GGUF"),
        (header(2**60, 0), "1152921504606846976 tensors"),
        (header(0, 2**60), "1152921504606846976 keys"),
        (header(0, 1) + struct.pack("<Q", 2**62) + b"x" * 40, "a text of"),
        (header(0, 1) + text("k") + struct.pack("<I", 77) + b"x" * 40, "unknown type 77"),
        (header(0, 1) + text("k") + struct.pack("<IIQ", 9, 77, 1) + b"x" * 40, "array of unknown type 77"),
        (header(0, 1) + text("k") + struct.pack("<IIQ", 9, 4, 2**61) + b"x" * 40, "damaged: the header speaks of an array of"),
        (header(0, 1) + text("k") + struct.pack("<IIQ", 9, 8, 2**61) + b"x" * 40, "damaged: the header speaks of 2305843009213693952 texts"),
        (header(0, 1) + text("k") + struct.pack("<IIQ", 9, 9, 2**61) + b"x" * 40, "arrays"),
        (header(0, 1) + text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9 + b"x" * 40, "too deeply"),
        (header(0, 1) + text("general.alignment") + struct.pack("<II", 4, 0), "alignment is absurd"),
        (header(1, 0) + text("t") + struct.pack("<I", 9) + b"x" * 40, "9 dimensions"),
        (header(1, 0) + text("t") + struct.pack("<IQIQ", 1, 64, 0, 0) + b"\0" * 32, "cut short: 89 of 320 bytes"),
        (header(0, 2) + text("general.architecture") + struct.pack("<I", 8) + text("llama") + text("llama.block_count")
         + struct.pack("<II", 4, 4_000_000_000), "4000000000 layers"),
    ],
)  # fmt: skip
def test_damage_is_told_in_words(raw, said):
    with pytest.raises(FormatError, match=said):
        read_bytes(raw)


def test_a_header_of_absurd_size_is_not_read_into_memory():
    raw = header(0, 1) + struct.pack("<Q", 2**35) + b"x" * 40
    with pytest.raises(FormatError, match="larger than 512 MiB"):
        read_bytes(raw, size=2**40)


def test_a_file_that_is_cut_short_says_how_much_is_there(chat):
    raw = chat.read_bytes()
    with pytest.raises(FormatError, match=r"cut short: 2,000,000 of 4,\d\d\d,\d\d\d bytes"):
        read_bytes(raw[:2_000_000])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_raises_anything_but_format_error(chat, data):
    raw = bytearray(chat.read_bytes()[:12_000])
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    size = data.draw(st.sampled_from([cut, 3_300_000, 0, 2**50]))
    try:
        facts = read_bytes(bytes(raw[:cut]), size)
    except FormatError:
        return
    assert facts.format == "gguf"


@given(st.binary(max_size=300))
def test_random_bytes_raise_format_error(raw):
    for start in (b"", b"GGUF\x03\0\0\0", header(0, 1), header(1, 0), header(0, 1) + text("k")):
        try:
            read_bytes(start + raw)
        except FormatError:
            continue


NUMBERS = {"B": 0, "b": 1, "H": 2, "h": 3, "I": 4, "i": 5, "f": 6, "?": 7, "Q": 10, "q": 11, "d": 12}


@st.composite
def values(draw):
    """A value as (what the parser should keep, its bytes with its type)."""
    letter = draw(st.sampled_from([*NUMBERS, "text", "texts", "list"]))
    if letter == "text":
        word = draw(st.text(max_size=20))
        return word, struct.pack("<IQ", 8, len(word.encode())) + word.encode()
    if letter == "texts":
        words = draw(st.lists(st.binary(max_size=9), max_size=9))
        body = b"".join(struct.pack("<Q", len(word)) + word for word in words)
        return gguf_header.Skipped(len(words)), struct.pack("<IIQ", 9, 8, len(words)) + body
    if letter == "list":
        numbers = draw(st.lists(st.integers(0, 2**32 - 1), max_size=9))
        return numbers, struct.pack(f"<IIQ{len(numbers)}I", 9, 4, len(numbers), *numbers)
    width = 8 * struct.calcsize("<" + letter)
    kinds = {"?": st.booleans(), "f": st.floats(width=32, allow_nan=False), "d": st.floats(allow_nan=False)}
    signed = (
        st.integers(-(2 ** (width - 1)), 2 ** (width - 1) - 1) if letter.islower() else st.integers(0, 2**width - 1)
    )
    value = draw(kinds.get(letter, signed))
    return value, struct.pack("<I" + letter, NUMBERS[letter], value)


@given(st.dictionaries(st.text(max_size=12).filter(lambda name: name != "general.alignment"), values(), max_size=8))
def test_whatever_is_written_is_read(pairs):
    raw = header(0, len(pairs))
    for name, (_, body) in pairs.items():
        raw += struct.pack("<Q", len(name.encode())) + name.encode() + body
    parsed = gguf_header.read(io.BytesIO(raw), len(raw))
    assert parsed.keys == {name: value for name, (value, _) in pairs.items()}
    assert parsed.end == len(raw)
