#!/bin/sh
# Installs Debian packages for use by hand: of the services that come with them none is started, now or at boot.
# Needs root and apt-get; else says in one sentence what to install, and fails.
set -eu

policy=/usr/sbin/policy-rc.d # what it answers decides whether a package may start its services
aside=$policy.aside
log=$(mktemp)

restore() {
    rm -f "$log"
    [ -z "${denying:-}" ] || rm -f "$policy"
    [ ! -e "$aside" ] || mv -f "$aside" "$policy"
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM

fail() {
    echo "$*" >&2
    exit 1
}

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    fail "Please install what is missing; on Debian, as root: apt-get install --no-install-recommends $*"
fi

is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# The services of packages that are not there yet; those of packages that are belong to somebody.
services=
is_installed rabbitmq-server || services="$services rabbitmq-server"
is_installed redis-server || services="$services redis-server"
is_installed prometheus || services="$services prometheus"
is_installed erlang-base || services="$services epmd"
is_installed prometheus || services="$services prometheus"
is_installed podman || services="$services podman podman-restart podman-auto-update"

# Of the ports 4369 (epmd), 5672 and 25672 (RabbitMQ), 6379 (Redis), 9090 (Prometheus): those in use.
listening() {
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk '$4 == "0A" { n = split($2, at, ":"); print at[n] }' | grep -E '^(1111|1628|6448|18EB|2382)$' | sort -u
}

denies() {
    answer=0
    "$policy" rabbitmq-server start >/dev/null 2>&1 || answer=$?
    [ "$answer" = 101 ]
}

before=$(listening)
if ! denies; then
    [ ! -e "$policy" ] || mv "$policy" "$aside"
    denying=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

echo "Installing $* with apt-get"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update >"$log" 2>&1 </dev/null || true # without the network what is known already may do
apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@" >>"$log" 2>&1 </dev/null || {
    tail -n 15 "$log" >&2
    fail "apt-get could not install $*."
}

for service in $services; do
    [ ! -e "/etc/init.d/$service" ] || update-rc.d "$service" disable >/dev/null 2>&1 || true
    for unit in "$service.socket" "$service.timer" "$service.service"; do # one by one: not every service has all
        systemctl disable "$unit" >/dev/null 2>&1 || true
        [ ! -d /run/systemd/system ] || systemctl stop "$unit" >/dev/null 2>&1 || true
    done
done
[ "$(listening)" = "$before" ] || fail "A service that came with $* is running; stop it and try again."
