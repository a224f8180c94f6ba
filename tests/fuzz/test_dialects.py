"""Spoilt requests to the dialects alone, many in little time: each is understood, or refused in words."""

from __future__ import annotations

import random as randomness
from contextlib import suppress

import pytest

from roundhouse.dialects import anthropic, ollama, openai, responses
from roundhouse.errors import BadRequest
from tests.fuzz.mutations import FLAT, spoilt

PATHS = {path: bodies for _, found in FLAT for path, bodies in found.items()}
ANTHROPIC = anthropic.Anthropic(lambda _model: False)
OLLAMA = ollama.Ollama(lambda model: model == "alpha", lambda: 0.0)


def translate(path, raw):
    if path in ollama.PATHS:
        return OLLAMA.translate(path, {}, raw)
    if path in anthropic.PATHS:
        return ANTHROPIC.translate(path, {}, raw)
    if path == responses.PATH:
        responses.previous(raw)
        return responses.Response(raw, "1", 0.0)
    request = openai.peek(raw, openai.Operation.CHAT if "chat" in path else openai.Operation.NATIVE, model="x")
    openai.prompt_of(request)
    return openai.prepare(request, served_name="served", stream_upstream=True)


@pytest.mark.parametrize(
    "path", sorted(path for path in PATHS if not path.startswith(("/upstream", "/models", "/api/s", "/api/pu")))
)
def test_each_is_understood_or_refused_in_words(path):
    for seed in range(1500):
        random = randomness.Random(f"{path} {seed}")
        raw = spoilt(random, random.choice(PATHS[path]))
        with suppress(BadRequest, RecursionError):  # `api/translated` says the latter for every dialect
            translate(path, raw)
