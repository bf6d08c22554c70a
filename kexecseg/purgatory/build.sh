#!/bin/sh
# Assembles purgatory.S into the file $1 (purgatory.bin beside it by default), with
# GNU binutils.
set -eu
cd "$(dirname "$0")"
out=${1:-purgatory.bin}
object=$(mktemp)
trap 'rm -f "$object"' EXIT
as --64 -o "$object" purgatory.S
objcopy -O binary -j .text "$object" "$out"
