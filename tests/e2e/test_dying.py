"""An engine that gives itself up long before its process ends (A9): SGLang after its scheduler's death."""

from __future__ import annotations

import psutil

from tests.support.fake_python import Doubled, make_python
from tests.support.house import Running
from tests.support.processes import Watched


async def test_a9_its_words_count_not_its_exit(place):
    python = make_python(place.folder / "python", "sglang")
    folder = place.folder / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096}')
    model = Doubled(place.folder, "one", "sglang", {"path": str(folder)}, crash_wait=600)
    place.write([model], engines={"sglang": {"python": str(python)}})
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        engine = (await running.api.model("one"))["pid"]
        process = Watched(engine)
        scheduler = next(p for p in psutil.Process(engine).children(recursive=True) if "scheduler" in p.cmdline()[0])
        async with running.api.stream("one", fake={"tokens": 10_000, "delay": 0.02}) as answer:
            await answer.until("token")
            scheduler.kill()
            events = await answer.events()
        assert events.errors
        assert events.done
        failed = await running.api.until("one", "failed")
        assert process.gone()
        process.close()
        assert "crashed" in failed["error"] or "killed" in failed["error"], failed
        assert (await running.api.chat("one")).status == 200
