#!/bin/sh
# Runs one workload in a guest, or on the host in a copy of the guest's files: `run.sh NAME SIZE`. The host's clock runs
# between the two marks. Each result is hashed, so that a fast wrong answer shows; where a program runs for a time instead
# of an amount, the last mark tells the amount.
here=$(dirname "$0")
name=$1 size=$2
scratch=${FTEMU_BENCH_SCRATCH:-/tmp}
cd "$scratch" || exit 1
export LC_ALL=C PATH="$here:/usr/sbin:/usr/bin:/sbin:/bin" DEBIAN_FRONTEND=noninteractive

b() { busybox "$@"; }
repeat() {
    left=$1
    shift
    while [ "$left" -gt 0 ]; do
        "$@" || return
        left=$((left - 1))
    done
}
# The result of a command, hashed.
measure() {
    echo "ftemu-mark start $name"
    if "$@" > result; then
        result=$(b sha256sum result)
        echo "ftemu-mark stop $name ${result%% *}"
    else
        echo "ftemu-mark stop $name failed"
        b tail -n 5 result log
    fi
}
# How often openssl did something in `size` seconds.
speed() {
    echo "ftemu-mark start $name"
    result=$(openssl speed -elapsed -mr -seconds "$size" "$@" 2>&1 | sed -n 's/^+R[0-9]*:\([0-9]*\):.*/\1/p' | head -n 1)
    echo "ftemu-mark stop $name work=$result"
}
# 7-Zip does as much as it guesses the CPU to be fast, and rates that: millions of its commands, by the guest's clock.
commands() {
    echo "ftemu-mark start $name"
    before=$(date +%s%N)
    rating=$(7zz b "$size" -mmt1 -md18 -mtime=1 | sed -n 's/^Tot:.* \([0-9][0-9]*\) *$/\1/p')
    echo "ftemu-mark stop $name work=$((rating * (($(date +%s%N) - before) / 1000000) / 1000))"
}
part() { b dd if="$here/text" bs=65536 count="$1" 2> /dev/null; }
forks() { repeat "$1" /bin/true; }
count_words() {
    b awk '{ for (i = 1; i <= NF; i++) { c[$i]++; s = (s * 31 + length($i)) % 1000003 } } END { print s, c["the"], c["of"] }' "$1"
}
package() {
    apt-get -q -o Dir::Etc::SourceList="$here/sources.list" -o Dir::Etc::SourceParts=- -o APT::Sandbox::User=root "$@" > log 2>&1
}
install() { package install -y "$1" && dpkg -s "$1" | sed -n 's/^Status: //p'; }

case $name in
sha256sum | gzip | bzip2 | sort | awk | grep) part "$size" > input ;;
apt) package purge -y vim-runtime; package update; sync ;;
esac
case $name in
sha256sum) measure b sha256sum input input input input input input input input ;;
gzip) measure b gzip -9 -c input ;;
bzip2) measure b bzip2 -c input ;;
sort) measure b sort input ;;
awk) measure count_words input ;;
grep) measure b grep -c -E '(a|e)[b-d]*(ing|ed) [a-m]+(o|u)s?' input input ;;
7z) commands ;;
aes) speed -bytes 16384 -evp aes-128-cbc ;;
sha256) speed -bytes 16384 -evp sha256 ;;
rsa2048) speed rsa2048 ;;
python) measure python3 "$here/calls.py" "$size" ;;
perl) measure perl "$here/texts.pl" "$size" "$here/text" ;;
sqlite) measure sqlite3 :memory: "CREATE TABLE size AS SELECT $size AS rows;" ".read $here/tables.sql" ;;
gcc) measure repeat "$size" gcc -O2 -S -o - "$here/large.c" ;;
chacha) speed -bytes 16384 -evp chacha20 ;;
nbody) measure nbody "$size" ;;
matrix) measure stress-ng --quiet --matrix 1 --matrix-ops "$size" ;;
forks) measure forks "$size" ;;
pipes) measure pipes "$size" ;;
faults) measure faults "$size" ;;
apt) measure install vim-runtime ;;
traces) measure luajit "$here/traces.lua" "$size" ;;
once) measure generated once "$size" ;;
patch) measure generated patch "$size" ;;
*) echo "ftemu-mark unknown $name" ;;
esac
rm -f input result log
