#!/bin/sh
# Installs coding agents for `make test-agents` into .cache/agents (1.3 GB): aider in an environment of its own, Claude Code and Codex by
# npm. What is there already is kept; what can't be installed is said and left out.
set -eu
cd "$(dirname "$0")/.."
home=.cache/agents
mkdir -p "$home"

if ! cmp -s requirements/agents.txt "$home/python.txt"; then
    python3 -m venv --clear "$home/python"
    "$home/python/bin/python" -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/agents.txt
    cp requirements/agents.txt "$home/python.txt"
fi
if ! command -v npm >/dev/null; then
    echo "npm is missing: Claude Code and Codex are left out (sudo apt install nodejs npm)" >&2
elif ! cmp -s tests/agents/package-lock.json "$home/node/package-lock.json"; then
    rm -rf "$home/node"
    mkdir -p "$home/node"
    cp tests/agents/package.json tests/agents/package-lock.json "$home/node/"
    (cd "$home/node" && npm ci --silent --no-audit --no-fund) || { rm -rf "$home/node"; exit 1; }
    # Where npm runs no scripts of packages, the program is not put in its place.
    (cd "$home/node/node_modules/@anthropic-ai/claude-code" && node install.cjs)
fi
