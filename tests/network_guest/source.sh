#!/bin/busybox sh
read -r times
while [ "$times" -gt 0 ]; do
    cat /pattern
    times=$((times - 1))
done
