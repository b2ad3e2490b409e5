# An integer mix of busybox programs, run the same way inside a guest and on the host: benches/ times the marks by the
# host's clock. Each program's result is hashed, so that a fast wrong answer shows.
program=${FTEMU_BUSYBOX:-/bin/busybox}
cd "${FTEMU_BENCH_FOLDER:-/tmp}" || exit 1
b() { "$program" "$@"; }

b cat "$program" "$program" "$program" "$program" "$program" "$program" "$program" "$program" > large
b dd if="$program" of=small bs=65536 count=24 2> /dev/null
b awk 'BEGIN { x = 1; for (i = 0; i < 100000; i++) { x = x * 16807 % 2147483647; print x } }' > numbers

measure() {
    name=$1
    shift
    echo "ftemu-mark start $name"
    result=$("$@" | b sha256sum)
    echo "ftemu-mark stop $name ${result%% *}"
}

measure sha256sum b sha256sum large large large large
measure gzip b gzip -9 -c small
measure bzip2 b bzip2 -c small
measure sort b sort -n numbers
measure awk b awk '{ for (i = 0; i < 4; i++) { s = (s * 31 + $1 + i) % 1000003; c[s % 1009]++ } } END { print s, c[7] }' numbers
echo "ftemu-mark done"
