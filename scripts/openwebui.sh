#!/bin/sh
# Installs the real Open WebUI and what drives a browser, for `make test-openwebui`, into .cache/openwebui: 3 GB, 5 to 8
# minutes. `server` is an environment of its own, `browser` a folder for PYTHONPATH; nothing gets into .venv. What is there
# already is kept. pip must find a CPU build of torch 2.13.0, or it fetches several GB for GPUs; where the index that it uses
# has none, name one that has in PIP_EXTRA_INDEX_URL. Chromium is the system's, or the one that $CHROMIUM names.
set -eu
cd "$(dirname "$0")/.."
home=.cache/openwebui

say() { printf '%s\n' "$*" >&2; }

# Open WebUI wants 3.11 or 3.12, and our tests import from `browser`: the same Python as theirs.
find_python() {
    for candidate in ${PYTHON:-python3.12 python3.11 python3}; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    say "Open WebUI needs Python 3.11 or 3.12 with venv on PATH (or named in \$PYTHON)."
    return 1
}

install_server() {
    python=$(find_python)
    say "Installing Open WebUI with $("$python" --version) ..."
    mkdir -p "$home"
    "$python" -m venv --clear "$home/server"
    "$home/server/bin/python" -m pip --disable-pip-version-check --quiet install -r requirements/openwebui.txt
}

# A folder is whole when it has the list that it was made from.
is_there() { cmp -s "requirements/$2" "$home/$1/made-from.txt"; }

is_there server openwebui.txt || { install_server && cp requirements/openwebui.txt "$home/server/made-from.txt"; }
scripts/browser.sh
