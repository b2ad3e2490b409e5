#!/bin/busybox sh
# What the DHCP client does with what it was given.
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev eth0
for gateway in $router; do
    ip route add default via "$gateway"
done
echo "lease $ip mask $mask gateway $router"
