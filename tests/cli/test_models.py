from tests.cli.commands import run, stub

MODELS = [
    {"id": "a/b", "status": {"value": "loaded"}, "engine": "llamacpp", "kind": "chat", "context_length": 4096,
     "quantization": "Q4_1", "size": 92 << 20, "aliases": ["x", "y"]},
    {"id": "any", "status": {"value": "unloaded"}, "any_of": ["a/b", "c"], "aliases": []},
]  # fmt: skip


def test_models_list():
    with stub({"GET /v1/models": (200, {"object": "list", "data": MODELS})}) as there:
        shown = run("models", "list", "--url", there.url)
        assert run("models", "list", "--url", there.url, "--json").json == MODELS
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["a/b", "loaded", "llamacpp", "chat", "4096", "Q4_1", "92", "MiB", "x,", "y"] in lines
    assert ["any", "unloaded", "any", "of", "a/b,", "c"] in lines
