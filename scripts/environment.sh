# Sourced by the scripts beside this one. It knows nothing of gatepost but its pyproject.toml.

# Install Debian packages, or fail where this user or this system cannot.
apt_install() (
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 1
    echo "Installing $*" >&2
    # A test wants the programs, never their services; Debian asks this file whether to start them.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends "$@"; } </dev/null >&2
)

# Make .venv with gatepost (editable) and the named dependency groups, unless it stands already.
# $PYTHON chooses the interpreter: 3.11 or later, python3 if unset.
prepare() {
    python=${PYTHON:-python3}
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "gatepost needs Python 3.11 or later; set PYTHON to its path ($python is none)." >&2
        exit 1
    fi
    _make_venv
    _install "$@"
}

_make_venv() {
    made_by="$("$python" --version) in $PWD"
    [ "$(cat .venv/made-by 2>/dev/null)" != "$made_by" ] || return 0
    echo "Setting up .venv (once)" >&2
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
        if ! apt_install "$package"; then
            echo "Python's venv is missing. As root: apt-get install $package" >&2
            exit 1
        fi
    fi
    "$python" -m venv --clear .venv
    echo "$made_by" >.venv/made-by
}

_install() {
    stamp=.venv/installed-$(echo "${*:-gatepost}" | tr ' ' '-')
    ! cmp -s pyproject.toml "$stamp" || return 0
    # pip knows dependency groups since 25.1; Debian 12 has 23.0.
    .venv/bin/python -m pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
    .venv/bin/python -m pip install -q --disable-pip-version-check --editable . $(_group_options "$@")
    cp pyproject.toml "$stamp"
}

_group_options() {
    for group in "$@"; do echo "--group $group"; done
}
