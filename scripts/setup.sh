#!/bin/sh
# Makes the virtual environment: setup.sh run | dev
# `run` holds the product, `dev` also what tests and checks need. Everything is pinned by hash in requirements/.
set -eu
cd "$(dirname "$0")/.."
kind=${1:-run}
venv=.venv

say() { printf '%s\n' "$*" >&2; }

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Prints the first Python >= 3.11 that can make an environment; without ensurepip `python -m venv` leaves half of one.
find_python() {
    found=
    for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
        recent "$candidate" || continue
        found=${found:-$candidate}
        if "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    if [ -n "$found" ]; then
        package=python3-venv
        case $found in python3.*) package=$found-venv ;; esac
        say "Roundhouse: $found can't make a virtual environment here (its ensurepip is missing). Install it, then try again:"
        say "    sudo apt install $package"
    else
        say "Roundhouse needs Python 3.11 or newer, and none is on PATH. Install one, then try again:"
        say "    sudo apt install python3 python3-venv"
    fi
    return 1
}

if ! recent "$venv/bin/python"; then
    python=$(find_python)
    say "Making $venv with $("$python" --version) ..."
    "$python" -m venv --clear "$venv"
fi

say "Installing what Roundhouse needs ($kind) into $venv ..."
pip() { "$venv/bin/python" -m pip --disable-pip-version-check install -qq --no-deps "$@"; }
pip --require-hashes -r "requirements/$kind.txt" -r requirements/build.txt
pip --no-build-isolation --editable .
