#!/bin/sh
# Sees to it that servers are installed: those named, or, for `broker`, rabbitmq-server, for which an engine that
# can run it in a container will do as well. Without a name: none.
set -eu

[ $# -gt 0 ] || exit 0

has() {
    [ -x "/usr/lib/rabbitmq/bin/$1" ] || command -v "$1" >/dev/null # of the former only root has the latter
}

if [ "$1" != broker ]; then
    missing=
    for server in "$@"; do
        has "$server" || missing="$missing $server"
    done
    # shellcheck disable=SC2086 # a list of words
    [ -z "$missing" ] || exec scripts/packages.sh $missing
    exit 0
fi

if has rabbitmq-server; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && scripts/packages.sh rabbitmq-server; then
    exit 0
fi
for engine in docker podman; do
    if command -v $engine >/dev/null && $engine info >/dev/null 2>&1; then
        exit 0
    fi
done
echo "There is no broker to use: name one with --broker, install rabbitmq-server, or start Docker or Podman." >&2
exit 1
