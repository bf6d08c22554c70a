package linuximage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// efi is what a kernel needs that does not come from the firmware itself, to go on
// with the runtime services that this kernel has moved to virtual addresses
// (arch/x86/platform/efi/efi.c: efi_reuse_config, kexec_enter_virtual_mode).
type efi struct {
	signature, systab, systabHigh, version uint32 // as this kernel got them
	secureBoot                             byte
	vendor, tables, smbios                 uint64
	runtime                                []byte // efi_memory_desc_t of each range; none under efi=noruntime
}

const (
	efiDescSize  = 40 // efi_memory_desc_t
	efiSetupSize = 96 // struct efi_setup_data
	efiSignature = 'E' | 'L'<<8 | '6'<<16 | '4'<<24
)

// struct efi_info in boot_params, and the byte that says what the loader made of
// Secure Boot.
const (
	offEFISignature  = 0x1c0
	offEFISystab     = 0x1c4
	offEFIDescSize   = 0x1c8
	offEFIVersion    = 0x1cc
	offEFIMap        = 0x1d0
	offEFIMapSize    = 0x1d4
	offEFISystabHigh = 0x1d8
	offEFIMapHigh    = 0x1dc
	offSecureBoot    = 0x1ec
)

// readEFI reads how EFI stands in the running system; nil where it has none, or a
// 32-bit one, for which there is no way across a kexec. params are the running
// kernel's boot_params, systab its tables by name.
func readEFI(root fs.FS, params []byte, systab map[string]uint64) (*efi, error) {
	le := binary.LittleEndian
	if systab == nil || params == nil || le.Uint32(params[offEFISignature:]) != efiSignature {
		return nil, nil
	}
	e := &efi{
		signature:  efiSignature,
		systab:     le.Uint32(params[offEFISystab:]),
		systabHigh: le.Uint32(params[offEFISystabHigh:]),
		version:    le.Uint32(params[offEFIVersion:]),
		secureBoot: params[offSecureBoot],
		smbios:     systab["SMBIOS"],
	}
	if e.smbios == 0 {
		// The next kernel discards a stale memory attributes table only when this is
		// not 0; without an SMBIOS table it is not used for anything else.
		e.smbios = systab["SMBIOS3"]
	}
	var err error
	if e.vendor, err = readHex(root, "sys/firmware/efi/fw_vendor"); err != nil {
		return nil, err
	}
	if e.tables, err = readHex(root, "sys/firmware/efi/config_table"); err != nil {
		return nil, err
	}
	for i := 0; ; i++ {
		dir := fmt.Sprintf("sys/firmware/efi/runtime-map/%d/", i)
		if _, err := fs.Stat(root, dir+"type"); errors.Is(err, fs.ErrNotExist) {
			return e, nil
		}
		var desc [5]uint64
		for j, name := range []string{"type", "phys_addr", "virt_addr", "num_pages", "attribute"} {
			if desc[j], err = readHex(root, dir+name); err != nil {
				return nil, err
			}
			e.runtime = le.AppendUint64(e.runtime, desc[j])
		}
	}
}

// readHex reads a file with one number.
func readHex(root fs.FS, name string) (uint64, error) {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, fmt.Errorf("linuximage: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 0, 64)
	if err != nil {
		return 0, fmt.Errorf("linuximage: /%s: %w", name, err)
	}
	return n, nil
}

// node is the payload of the SETUP_EFI node: struct efi_setup_data, and behind it
// the runtime map, which so lies where KASLR keeps clear of it.
func (e *efi) node() []byte {
	b := make([]byte, efiSetupSize, efiSetupSize+len(e.runtime))
	le := binary.LittleEndian
	le.PutUint64(b[0:], e.vendor)
	le.PutUint64(b[16:], e.tables)
	le.PutUint64(b[24:], e.smbios)
	return append(b, e.runtime...)
}

// setEFI fills efi_info; node is the address of the SETUP_EFI node.
func (bp bootParams) setEFI(e *efi, node uint64) {
	le := binary.LittleEndian
	le.PutUint32(bp[offEFISignature:], e.signature)
	le.PutUint32(bp[offEFISystab:], e.systab)
	le.PutUint32(bp[offEFISystabHigh:], e.systabHigh)
	le.PutUint32(bp[offEFIDescSize:], efiDescSize)
	le.PutUint32(bp[offEFIVersion:], e.version)
	bp.putSplit(offEFIMap, offEFIMapHigh, node+setupHeader+efiSetupSize)
	le.PutUint32(bp[offEFIMapSize:], uint32(len(e.runtime)))
	bp[offSecureBoot] = e.secureBoot
}
