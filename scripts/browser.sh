#!/bin/sh
# Installs what drives a browser in tests: Playwright and axe-core into .cache/openwebui/browser (a folder for PYTHONPATH;
# nothing gets into .venv), and Chromium, which is the system's or the one that $CHROMIUM names. About a minute; what is
# there already is kept.
set -eu
cd "$(dirname "$0")/.."
home=.cache/openwebui/browser

say() { printf '%s\n' "$*" >&2; }

lists() { cat requirements/openwebui-browser.txt requirements/ui.txt; }

if ! lists | cmp -s - "$home/made-from.txt"; then
    say "Installing Playwright ..."
    for list in openwebui-browser ui; do
        .venv/bin/python -m pip --disable-pip-version-check --quiet install --upgrade --no-deps --target "$home" \
            -r "requirements/$list.txt"
    done
    lists >"$home/made-from.txt"
fi

if [ -z "${CHROMIUM:-}" ] && ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "Chromium is missing: install it (sudo apt install chromium fonts-noto-color-emoji), or name one in \$CHROMIUM."
        exit 1
    fi
    say "Installing Chromium ..."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-noto-color-emoji >/dev/null
fi
