#!/bin/sh
# Before the kernel comes to a fresh Debian tree ($1): what its initramfs shall hold, so that it is built once. The drivers
# of disks that this guest may have, and no others: the smaller the initramfs, the faster the boot.
set -eu
root=$1
mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/modules.d"
printf 'MODULES=list\nCOMPRESS=zstd\n' > "$root/etc/initramfs-tools/conf.d/ftemu"
printf '%s\n' virtio_pci virtio_blk virtio_scsi ata_piix ahci sd_mod sr_mod ext4 > "$root/usr/share/initramfs-tools/modules.d/ftemu"
