#!/bin/sh
# Prints which servers and tools the tests need that are chosen by pytest's arguments $@: by their folders, or all
# when no path is among the arguments. Used by `make test`.
set -eu

all="rabbitmq-server redis-server prometheus chromium npm iptables"
needs=
chosen=
for argument in "$@"; do
    [ -e "${argument%%::*}" ] || continue # an option, or its value
    chosen=yes
    case $argument in
        tests/deploy/test_asyncapi_parser.py*) needs="$needs npm" ;;
        tests/unit | tests/unit/*) ;;
        tests/pipeline | tests/pipeline/* | tests/simulation | tests/simulation/*) ;;
        tests/deploy | tests/deploy/) needs="$needs prometheus npm" ;;
        tests/deploy/*) needs="$needs prometheus" ;; # what needs more is chosen by a mark, see Makefile
        tests/live/test_status_page.py* | tests/live/test_schema_page.py* | tests/live | tests/live/)
            needs="$needs rabbitmq-server redis-server chromium iptables"
            ;;
        tests/live/test_late_arrival.py*) needs="$needs iptables" ;;
        tests/live/*) needs="$needs rabbitmq-server redis-server" ;;
        *) needs=$all ;;
    esac
done
[ -n "$chosen" ] || needs=$all
[ "$(id -u)" = 0 ] || all=${all% iptables} # only root may drop packets
for server in $all; do
    case " $needs " in
        *" $server "*) echo "$server" ;;
    esac
done
