#!/bin/sh
# Runs a command ($2 …) with the RabbitMQ in the root folder $1 in place of the installed one. Needs root, and the
# package rabbitmq-server: its Erlang serves as epmd. Nothing outside this command and its children sees the difference.
set -eu

root=$(realpath "$1")
shift
scripts=/usr/lib/rabbitmq/bin
temporary=${TMPDIR:-/tmp}

inside=$(mktemp -d)
trap 'rm -rf "$inside"' EXIT
for name in rabbitmq-server rabbitmqctl; do
    # exec all the way: whoever starts a server has the server itself as a child.
    printf '#!/bin/sh\nexec /usr/sbin/chroot %s %s/%s "$@"\n' "$root" "$scripts" "$name" >"$inside/$name"
    chmod 755 "$inside/$name"
done

# Paths of temporary folders are the same inside and outside.
mkdir -p "$root$temporary"
# shellcheck disable=SC2016 # expanded by the inner shell
unshare --mount --propagation private sh -euc '
    root=$1 inside=$2 scripts=$3 temporary=$4
    shift 4
    mount --rbind "$temporary" "$root$temporary"
    mount --bind /proc "$root/proc"
    mount --bind /dev "$root/dev"
    mount --bind "$inside" "$scripts"
    exec "$@"
' sh "$root" "$inside" "$scripts" "$temporary" "$@"
