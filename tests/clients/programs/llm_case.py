"""`llm`, the command line, with its `extra-openai-models.yaml`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import MODEL, QUESTION, URL, clean, run

folder = tempfile.mkdtemp()
os.environ["LLM_USER_PATH"] = folder
Path(folder, "extra-openai-models.yaml").write_text(
    "".join(
        f"- {{model_id: {name}, model_name: {name}, api_base: '{URL}', supports_tools: true, supports_schema: true}}\n"
        for name in (MODEL, "nobody")
    )
)
program = str(Path(sys.executable).with_name("llm"))


def llm(*words, good=True):
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode == 0) is good, done.stderr
    return done.stdout if good else done.stderr


def refused():
    said = llm("-m", "nobody", "--key", "any", "hi", good=False)
    assert "nobody" in said, said
    return said.strip()


run(
    {
        "stream": lambda: clean(llm("-m", MODEL, "--key", "any", "-o", "max_tokens", "24", QUESTION)),
        "chat": lambda: clean(llm("-m", MODEL, "--key", "any", "--no-stream", "-o", "max_tokens", "24", QUESTION)),
        "structured output": lambda: llm("-m", MODEL, "--key", "any", "--schema", "city str", QUESTION),
        "unknown model": refused,
    }
)
