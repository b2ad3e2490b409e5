#!/bin/busybox sh
# PID 1 of the Debian guest: busybox on Debian's cloud kernel, told what to do by the kernel command line.
#
#   ftemu.mode=lines   print numbered lines, each with a hash chained over real computation, then power off (default)
#   ftemu.mode=bench   run bench.sh between marks, then power off
#   ftemu.mode=shell   an interactive shell on the console
#   ftemu.mode=echo    on the network: pings, and TCP port 7 sends back what it is sent
#   ftemu.address=A/N  ... with this address
#   ftemu.lines=N      how many lines (default 200)
#   ftemu.seed=N       where the chain starts (default 1)
#   ftemu.pause_us=N   microseconds of sleep after each line (default 2000)
#
# The verifier outside the guest does the same computation: images/src/chain.rs.
export PATH=/bin
mkdir -p /proc /sys /tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
# From here on the console belongs to the lines below, not to the kernel's messages.
dmesg -n 1
echo "ftemu-mark init"

mode=lines lines=200 seed=1 pause_us=2000 address=10.0.0.2/24
read -r command_line < /proc/cmdline
for word in $command_line; do
    case $word in
    ftemu.mode=*) mode=${word#*=} ;;
    ftemu.lines=*) lines=${word#*=} ;;
    ftemu.seed=*) seed=${word#*=} ;;
    ftemu.pause_us=*) pause_us=${word#*=} ;;
    ftemu.address=*) address=${word#*=} ;;
    esac
done

hash_of_input() {
    sha256sum | { read -r hash rest; echo "$hash"; }
}

print_lines() {
    previous=$(printf 'ftemu %s' "$seed" | hash_of_input)
    number=0
    while [ "$number" -lt "$lines" ]; do
        number=$((number + 1))
        start=$((0x${previous%"${previous#???????}"} + 1))
        sorted=$(awk -v x=$start 'BEGIN { for (i = 0; i < 48; i++) { x = x * 16807 % 2147483647; print x } }' |
            sort -n | gzip -c | gunzip -c)
        previous=$(printf '%s %s\n%s\n' "$number" "$previous" "$sorted" | hash_of_input)
        echo "ftemu-line $number $previous"
        [ "$pause_us" = 0 ] || usleep "$pause_us"
    done
    echo "ftemu-end $number $previous"
}

answer() {
    for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net e1000; do
        [ -e "/lib/$module.ko" ] && insmod "/lib/$module.ko"
    done
    ip link set lo up
    ip addr add "$address" dev eth0
    ip link set eth0 up
    echo "ftemu-mark network"
    nc -ll -p 7 -e cat
}

case $mode in
echo) answer ;;
bench) sh /bench.sh ;;
shell) setsid cttyhack sh ;;
*) print_lines ;;
esac
poweroff -f
