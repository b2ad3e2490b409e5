#!/bin/busybox sh
# PID 1 of the guest of the network tests: services on TCP ports that a test talks with.
#
#   ftemu.address=A/N   its address; `dhcp`: the one that it is given
#
#   7    sends back what it is sent
#   9    gives the MD5 sum of what it was sent
#   19   reads a number, and sends /pattern so many times
#   22   ssh, if dropbear is there
#   80   reads an address and a port, and gives the MD5 sum of what is sent to it from there
export PATH=/bin
mkdir -p /proc /sys /tmp /etc
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
dmesg -n 1

address=dhcp
read -r command_line < /proc/cmdline
for word in $command_line; do
    case $word in
    ftemu.address=*) address=${word#*=} ;;
    esac
done

for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net e1000; do
    [ -e "/lib/$module.ko" ] && insmod "/lib/$module.ko"
done
ip link set lo up

if [ -e /bin/dropbear ]; then
    echo "root:x:0:0:root:/root:/bin/sh" > /etc/passwd
    echo /bin/sh > /etc/shells
    dropbear -R -s
fi

nc -ll -p 7 -e cat &
nc -ll -p 9 -e busybox md5sum &
nc -ll -p 19 -e /source &
nc -ll -p 80 -e /fetch &
# Until all of them listen (state 0A).
for port in 0007 0009 0013 0050; do
    until awk '{ print $2, $4 }' /proc/net/tcp /proc/net/tcp6 | busybox grep -q ":$port 0A"; do
        usleep 10000
    done
done
# Whoever can reach this guest finds its services.
ip link set eth0 up
case $address in
dhcp) busybox udhcpc -i eth0 -t 20 -T 1 -n -q -s /lease ;;
*) ip addr add "$address" dev eth0 ;;
esac
echo "ftemu-mark network"
wait
