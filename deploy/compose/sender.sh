#!/bin/sh
# Sends requests for ever, two a second: a minute's worth at a time, of which each has a task name of its own.
set -eu

project=0123456789abcdef0123456789abcdef
networks='"vpc_id":"5e37b3be-950a-48e1-b498-65b63d336481","subnet_id":"40f15ed6-7f85-49d5-ba0e-65b940d4812c"'
group='"security_group_id":"9df96622-24b7-4813-84b8-ab74552a21d7"'

requests() {
    minute=$(date +%s)
    for number in $(seq 120); do
        echo "{\"project_id\":\"$project\",\"task\":{\"name\":\"demo-$minute-$number\",$networks,$group}}"
    done
}

while :; do
    requests | dcs-worker submit --rate 2 - || sleep 5 # the broker may be away
done
