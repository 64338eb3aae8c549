#!/bin/sh
# Makes the virtual environment $1 with $PYTHON: everything that requirements-dev.lock pins, and this project itself,
# editable, so that the command dcs-worker is there. Runs again whenever the lock has changed.
set -eu

venv=$1
python=${PYTHON:-python3}

fail() {
    echo "$*" >&2
    exit 1
}

command -v "$python" >/dev/null || fail "Python 3.11 or newer is needed, and there is no $python: name one with make PYTHON=/path/to/python3."
found=$("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")')
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is needed, and $python is $found: name another with make PYTHON=/path/to/python3."

# Debian keeps what makes virtual environments in a package of its own.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    case $(command -v "$python") in
        /usr/bin/*) scripts/packages.sh "python$found-venv" ;;
        *) fail "$python cannot make virtual environments: its module ensurepip is missing." ;;
    esac
fi

# One that was made with a Python which is gone since cannot be mended.
"$venv/bin/python" -c '' 2>/dev/null || rm -rf "$venv"
echo "Installing the locked Python packages into $venv (Python $found)"
"$python" -m venv "$venv"
pip="$venv/bin/python -m pip -qq --disable-pip-version-check --no-input install"
$pip --require-hashes --no-deps --requirement requirements-dev.lock
$pip --no-build-isolation --no-deps --editable .
