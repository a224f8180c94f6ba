"""Our tables against the reference implementation's."""

import gguf

from roundhouse.formats import ggml


def test_tensor_types_are_those_of_the_gguf_package():
    assert {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()} == dict(ggml.TENSORS)


def test_names_of_tensor_types_are_those_of_the_gguf_package():
    theirs = {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
    assert dict(ggml.NAMES).items() <= theirs.items()
    assert {kind for kind in theirs if theirs[kind][0] != "I" or "Q" in theirs[kind]} - {28} == set(ggml.NAMES)


def test_file_types_are_those_of_the_gguf_package():
    theirs = {
        int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for kind in gguf.LlamaFileType
        if kind is not gguf.LlamaFileType.GUESSED
    }
    assert theirs == dict(ggml.FILES)


def test_value_types_and_pooling_are_those_of_the_gguf_package():
    kinds = gguf.GGUFValueType
    assert (kinds.BOOL, kinds.STRING, kinds.ARRAY) == (ggml.BOOL, ggml.STRING, ggml.ARRAY)
    assert set(ggml.SCALARS) | {ggml.STRING, ggml.ARRAY} == set(map(int, kinds))
    assert ggml.RANK == gguf.PoolingType.RANK
