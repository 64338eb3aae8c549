#!/bin/sh
# Puts the RabbitMQ server of the series $1 (3.10, 4.0 or 4.3) into the folder $2, which becomes the root of a Debian
# of its own. Each series is that of one Debian release; one that has moved on is refused. Needs root.
set -eu

series=$1
root=$2
case $series in
    3.10) suite=bookworm ;;
    4.0) suite=trixie ;;
    4.3) suite=forky ;;
    *) echo "There is no Debian release with RabbitMQ $series: choose among 3.10, 4.0, 4.3." >&2 && exit 2 ;;
esac

fail() {
    rm -rf "$root"
    echo "$*" >&2
    exit 1
}

if [ ! -e "$root/.complete" ]; then
    [ "$(id -u)" = 0 ] || fail "Only root can make a Debian root folder for RabbitMQ $series."
    command -v mmdebstrap >/dev/null || scripts/packages.sh mmdebstrap
    rm -rf "$root"
    mkdir -p "$(dirname "$root")"
    echo "Unpacking RabbitMQ $series from Debian $suite into $root"
    # Debian's testing release is signed, but its list may count as expired.
    mmdebstrap --quiet --mode=root --variant=essential --include=rabbitmq-server,ca-certificates \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$root" >/dev/null || fail "mmdebstrap failed."
    echo '127.0.0.1 localhost' >"$root/etc/hosts" # Erlang looks for its own host's name
    touch "$root/.complete"
fi

found=$(chroot "$root" dpkg-query --show --showformat='${Version}' rabbitmq-server)
case $found in
    "$series".*) ;;
    *) fail "Debian $suite has RabbitMQ $found by now, not $series: name another release in scripts/chroot.sh." ;;
esac
