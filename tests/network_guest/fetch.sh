#!/bin/busybox sh
read -r address port
# Input stays open: passt loses what comes after an early end from the guest.
nc "$address" "$port" | busybox md5sum
