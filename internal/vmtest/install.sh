#!/bin/sh
# Brings the Debian packages that the tests use, or those named as arguments. Does
# nothing when they are there; needs root or sudo when they are not.
set -eu

[ $# -gt 0 ] || set -- qemu-system-x86 qemu-system-arm qemu-efi-aarch64 swtpm swtpm-tools ovmf \
	ima-evm-utils device-tree-compiler cpio debian-archive-keyring ca-certificates

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	echo "install.sh: not Debian or Ubuntu: please install what these packages hold: $*" >&2
	exit 1
fi

missing=
for package; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "install.sh: neither root nor sudo: please install$missing" >&2
		exit 1
	fi
	sudo=sudo
fi
install() {
	# shellcheck disable=SC2086 # a list of names
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing </dev/null
}
# The lists may be missing or older than the mirror.
install || { $sudo apt-get update -q && install; }
