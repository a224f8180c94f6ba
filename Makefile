# Roundhouse's commands. `make demo` and `make test` need nothing before them.

PYTHON_IN := .venv/bin/python
# Test processes; 0 runs them in one (make test WORKERS=0 TESTS="tests/core -x").
WORKERS ?= 2
TESTS ?=

.PHONY: help setup dev demo test check demo-smoke bench bench-memory bench-starts bench-switching soak fuzz test-coload test-engines mutants format lock clean test-openwebui test-ui test-clients test-agents compatibility

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

setup: .venv/.setup  ## make .venv with the product in it

.venv/.setup: scripts/setup.sh pyproject.toml requirements/run.txt requirements/build.txt
	@scripts/setup.sh run
	@touch $@

dev: .venv/.dev

.venv/.dev: scripts/setup.sh pyproject.toml requirements/dev.txt requirements/build.txt
	@scripts/setup.sh dev
	@touch $@ .venv/.setup

demo: setup  ## two chat models and an embedding model behind one endpoint, on 127.0.0.1:8002
	@$(PYTHON_IN) -m roundhouse demo $(DEMO_ARGS)

test: dev  ## the test suite
	$(PYTHON_IN) -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

check: dev  ## lint, formatting, types, import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

demo-smoke: setup  ## start the demo, ask each of its models once, end it
	$(PYTHON_IN) tests/demo/smoke.py

bench: dev  ## measure Roundhouse beside its peers on this machine
	$(PYTHON_IN) -m bench.run $(BENCH)

bench-switching: dev  ## whose turn it is, and what a switch costs: beside other policies and llama-server's router (30 min; BENCH=--quick: 5)
	$(PYTHON_IN) -m bench.turns $(BENCH)
	$(PYTHON_IN) -m bench.returns $(BENCH)
	$(PYTHON_IN) -m bench.prefetch $(BENCH)

bench-memory: dev  ## what the demo's models occupy, beside their estimates and llama-server's log
	$(PYTHON_IN) -m bench.memory $(BENCH)

bench-starts: dev  ## what llama-server's flags do to its start and answers, with the demo's models
	$(PYTHON_IN) -m bench.starts $(BENCH)

soak: dev  ## the long runs: 100 kills under load, 500 switches with conversations, 200 edits of the configuration, longer simulations, 1,000 workloads
	ROUNDHOUSE_SOAK=100 ROUNDHOUSE_SESSIONS=500 ROUNDHOUSE_RELOADS=200 HYPOTHESIS_PROFILE=soak $(PYTHON_IN) -m pytest -s --timeout 7200 tests/soak tests/core/test_box_simulation.py tests/core/test_workloads.py

FUZZ_MINUTES ?= 60
fuzz: dev  ## spoilt requests to every route for an hour (FUZZ_MINUTES=5), half of them to a real llama-server; its memory watched
	$(PYTHON_IN) -m tests.fuzz.run --minutes $(FUZZ_MINUTES) $(FUZZ)

test-coload: dev  ## twice 200 random requests for nine models of which two to four fit, with a real llama-server
	ROUNDHOUSE_COLOAD=200 $(PYTHON_IN) -m pytest -s --timeout 3600 tests/soak/test_coload.py

ENGINES ?= sglang vllm
comma := ,
test-engines: dev  ## real SGLang and vLLM on the CPU, the same tests as their doubles (6.5 GB, ENGINES=sglang for one)
	scripts/engines.sh $(ENGINES)
	ROUNDHOUSE_REAL_ENGINES=$(subst $() $(),$(comma),$(strip $(ENGINES))) $(PYTHON_IN) -m pytest -s -v --durations=10 tests/real

test-openwebui: dev  ## the real Open WebUI in headless Chromium, with the demo's models (3 GB; SCREENSHOTS=docs/images takes new pictures)
	scripts/openwebui.sh
	ROUNDHOUSE_OPENWEBUI=1 ROUNDHOUSE_SCREENSHOTS=$(SCREENSHOTS) PYTHONPATH=.cache/openwebui/browser \
		$(PYTHON_IN) -m pytest -s -v --durations=20 tests/openwebui

test-ui: dev  ## the dashboard in headless Chromium, with the demo's models (SCREENSHOTS=docs/images takes new pictures)
	scripts/browser.sh
	ROUNDHOUSE_UI=1 ROUNDHOUSE_SCREENSHOTS=$(SCREENSHOTS) PYTHONPATH=.cache/openwebui/browser \
		$(PYTHON_IN) -m pytest -s -v --durations=5 tests/ui

test-clients: dev  ## LangChain, litellm, llm, and Node's OpenAI and AI SDK against real models (500 MB; writes docs/compatibility-clients.md)
	scripts/clients.sh
	ROUNDHOUSE_CLIENTS=1 $(PYTHON_IN) -m pytest -s -v tests/clients

test-agents: dev  ## Claude Code, Codex CLI and aider, headless, through Roundhouse (1.3 GB; writes docs/compatibility-agents.md)
	scripts/agents.sh
	ROUNDHOUSE_AGENTS=1 $(PYTHON_IN) -m pytest -s -v tests/agents

compatibility: dev  ## ask every engine for every feature, and write docs/compatibility.md
	ROUNDHOUSE_COMPATIBILITY=1 $(PYTHON_IN) -m pytest -q tests/compatibility

mutants: dev  ## change the core one thing at a time, and see whether the tests notice
	$(PYTHON_IN) scripts/mutants.py $(MUTANTS)

format: dev  ## format, and fix what can be fixed
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock:  ## pin newest versions again in requirements/ (needs uv)
	$(LOCK) --upgrade requirements/build.in -o requirements/build.txt
	$(LOCK) --upgrade pyproject.toml -o requirements/run.txt
	$(LOCK) --upgrade pyproject.toml --extra demo --group dev -c requirements/run.txt -o requirements/dev.txt

clean:  ## remove .venv and caches; the demo's downloads stay in ~/.cache/roundhouse
	rm -rf .venv build dist htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
