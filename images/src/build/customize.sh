#!/bin/sh
# Makes a fresh Debian tree ($1) the guest that the plan wants. Run by mmdebstrap as root of that tree, with the plan's
# words beside this script, in files.
set -eu
root=$1
here=$(dirname "$0")
word() { cat "$here/words/$1"; }

word hostname > "$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost ip6-localhost ip6-loopback\n' "$(word hostname)" > "$root/etc/hosts"
printf 'UUID=%s / ext4 errors=remount-ro 0 1\n' "$(word root-uuid)" > "$root/etc/fstab"

# Every wired interface asks for an address; the client is its MAC, so that a guest keeps its address.
cat > "$root/etc/systemd/network/80-dhcp.network" << END
[Match]
Name=en* eth*
[Network]
DHCP=yes
[DHCPv4]
ClientIdentifier=mac
END

chroot "$root" useradd --create-home --shell /bin/bash --groups sudo,adm "$(word user)"
printf '%s:%s\nroot:%s\n' "$(word user)" "$(word password)" "$(word password)" | chroot "$root" chpasswd
printf 'PasswordAuthentication %s\n' "$(word ssh-passwords)" > "$root/etc/ssh/sshd_config.d/ftemu.conf"
if [ -s "$here/words/ssh-key" ]; then
    for user in root "$(word user)"; do
        folder="$root$(chroot "$root" getent passwd "$user" | cut -d: -f6)/.ssh"
        mkdir -p -m 700 "$folder"
        word ssh-key > "$folder/authorized_keys"
        chmod 600 "$folder/authorized_keys"
        chroot "$root" chown -R "$user:" "${folder#"$root"}"
    done
fi

chroot "$root" systemctl --quiet enable systemd-networkd ssh serial-getty@ttyS0
# A guest without a network shall not wait for one.
chroot "$root" systemctl --quiet disable systemd-networkd-wait-online

mkdir -p "$root/boot/grub"
cat > "$root/boot/grub/grub.cfg" << END
if serial --unit=0 --speed=115200; then
    terminal_input console serial
    terminal_output console serial
fi
set timeout=2
set default=0
menuentry "Debian GNU/Linux" {
    linux /vmlinuz root=UUID=$(word root-uuid) ro console=tty0 console=ttyS0,115200
    initrd /initrd.img
}
menuentry "Debian GNU/Linux (rescue mode)" {
    linux /vmlinuz root=UUID=$(word root-uuid) ro single console=tty0 console=ttyS0,115200
    initrd /initrd.img
}
END

# Made again at the first start, so that no two guests have the same.
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
