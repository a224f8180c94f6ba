#!/bin/sh
# Installs clients for `make test-clients` into .cache/clients (500 MB): LangChain, litellm and llm in an environment of their own,
# the OpenAI and AI SDK packages for Node. What is there already is kept.
set -eu
cd "$(dirname "$0")/.."
home=.cache/clients
mkdir -p "$home"

if ! cmp -s requirements/clients.txt "$home/python.txt"; then
    python3 -m venv --clear "$home/python"
    "$home/python/bin/python" -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/clients.txt
    cp requirements/clients.txt "$home/python.txt"
fi
if ! command -v npm >/dev/null; then
    echo "npm is missing: the Node clients are left out (sudo apt install nodejs npm)" >&2
elif ! cmp -s tests/clients/programs/package-lock.json "$home/node/package-lock.json"; then
    rm -rf "$home/node"
    mkdir -p "$home/node"
    cp tests/clients/programs/package.json tests/clients/programs/package-lock.json "$home/node/"
    (cd "$home/node" && npm ci --silent --no-audit --no-fund) || { rm -rf "$home/node"; exit 1; }
fi
