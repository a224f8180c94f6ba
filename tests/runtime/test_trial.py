import io
from pathlib import Path

import gguf

from roundhouse.formats import gguf as header
from roundhouse.runtime.trial import write_trial_model


def test_the_trial_model_is_a_whole_gguf_file(tmp_path: Path):
    path = write_trial_model(tmp_path / "trial.gguf")
    read = gguf.GGUFReader(path)
    assert {tensor.tensor_type.name for tensor in read.tensors} == {"F32", "Q8_0"}
    last = read.tensors[-1]
    assert last.data_offset + last.n_bytes <= path.stat().st_size
    assert path.stat().st_size < 100_000


def test_our_own_parser_reads_it(tmp_path: Path):
    data = write_trial_model(tmp_path / "trial.gguf").read_bytes()
    facts = header.read(io.BytesIO(data), len(data))
    assert (facts.architecture, facts.context, facts.vocabulary) == ("llama", 256, 259)
