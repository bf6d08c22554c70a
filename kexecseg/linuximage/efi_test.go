package linuximage

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// efiRoot is a machine with EFI: what OVMF and Linux 6.12 showed in
// /sys/firmware/efi.
func efiRoot(t testing.TB) fstest.MapFS {
	t.Helper()
	root := testRoot(t, efiMachine)
	text, err := os.ReadFile("testdata/efi-ovmf.txt")
	if err != nil {
		t.Fatal(err)
	}
	name := ""
	for line := range strings.Lines(string(text)) {
		if before, after, ok := strings.Cut(line, ": "); ok {
			name, line = "sys/firmware/efi/"+before, after
			root[name] = file("")
		}
		root[name].Data = append(root[name].Data, line...)
	}
	le := binary.LittleEndian
	params := make([]byte, bootParamsSize)
	copy(params[0x1c0:], "EL64")
	le.PutUint32(params[0x1c4:], 0x3f9ee018)
	le.PutUint32(params[0x1c8:], 48)
	le.PutUint32(params[0x1cc:], 1)
	le.PutUint32(params[0x1d0:], 0xdeadbeef) // the map that this kernel was given
	le.PutUint32(params[0x1d4:], 132*48)
	le.PutUint32(params[0x1d8:], 7)
	params[0x1ec] = 3
	root["sys/kernel/boot_params/data"] = &fstest.MapFile{Data: params}
	return root
}

func TestEFI(t *testing.T) {
	root := efiRoot(t)
	img := plan(t, testLinux(), root, 4096)
	le := binary.LittleEndian
	p := img.params
	if rsdp := le.Uint64(p[0x70:]); rsdp != 0x3f77d014 {
		t.Errorf("acpi_rsdp_addr %#x", rsdp)
	}
	if string(p[0x1c0:0x1c4]) != "EL64" || le.Uint32(p[0x1c4:]) != 0x3f9ee018 || le.Uint32(p[0x1d8:]) != 7 || le.Uint32(p[0x1cc:]) != 1 || p[0x1ec] != 3 {
		t.Errorf("efi_info is not passed on: %x", p[0x1c0:0x1f0])
	}
	if size, n := le.Uint32(p[0x1c8:]), le.Uint32(p[0x1d4:]); size != 40 || n != 6*40 {
		t.Errorf("a map of %d bytes in descriptors of %d", n, size)
	}
	setup := img.nodes[4]
	le.PutUint64(setup.payload[8:], 0) // the field runtime is not used
	want := make([]byte, 96)
	le.PutUint64(want[0:], 0x3f52aa18)
	le.PutUint64(want[16:], 0x3f5ebc98)
	le.PutUint64(want[24:], 0x3f520000)
	if !bytes.Equal(setup.payload[:96], want) {
		t.Errorf("efi_setup_data\n%x, want\n%x", setup.payload[:96], want)
	}
	mapAt := uint64(le.Uint32(p[0x1d0:])) | uint64(le.Uint32(p[0x1dc:]))<<32
	if mapAt != setup.at+16+96 || len(setup.payload) != 96+6*40 {
		t.Errorf("the map at %#x is not in the node at %#x of %d bytes", mapAt, setup.at, len(setup.payload))
	}
	second := img.at(mapAt+40, 40)
	for i, v := range []uint64{6, 0x3fef4000, 0xfffffffeffaf4000, 0x84, 0x800000000000000f} {
		if got := le.Uint64(second[8*i:]); got != v {
			t.Errorf("word %d of the second range is %#x, want %#x", i, got, v)
		}
	}
}

// Without an initrd of its own the next kernel would take a stale one.
func TestEFIAlwaysHasAnInitrd(t *testing.T) {
	l := testLinux()
	l.Initrd = nil
	img := plan(t, l, efiRoot(t), 4096)
	if !bytes.HasPrefix(img.initrd, []byte("070701")) || !bytes.Contains(img.initrd, []byte("TRAILER!!!")) {
		t.Errorf("initrd %q", img.initrd)
	}
}

func TestEFINoRuntime(t *testing.T) {
	root := efiRoot(t)
	for name := range root {
		if strings.Contains(name, "runtime-map") {
			delete(root, name)
		}
	}
	img := plan(t, testLinux(), root, 4096)
	if n := binary.LittleEndian.Uint32(img.params[0x1d4:]); n != 0 || len(img.nodes[4].payload) != 96 {
		t.Errorf("a map of %d bytes, a node of %d", n, len(img.nodes[4].payload))
	}
}

func TestEFIOddities(t *testing.T) {
	for name, c := range map[string]struct {
		change func(fstest.MapFS)
		smbios uint64 // 0: no EFI is passed on
	}{
		"SMBIOS 3 alone": {func(r fstest.MapFS) { r["sys/firmware/efi/systab"] = file("ACPI20=0x1000\nSMBIOS3=0x2000\n") }, 0x2000},
		"both":           {func(r fstest.MapFS) { r["sys/firmware/efi/systab"] = file("SMBIOS3=0x2000\nSMBIOS=0x3000\n") }, 0x3000},
		"32-bit EFI":     {func(r fstest.MapFS) { copy(r["sys/kernel/boot_params/data"].Data[0x1c0:], "EL32") }, 0},
		"gone":           {func(r fstest.MapFS) { delete(r, "sys/firmware/efi/systab") }, 0},
	} {
		root := efiRoot(t)
		c.change(root)
		img := plan(t, testLinux(), root, 4096)
		setup, ok := img.nodes[4]
		if ok != (c.smbios != 0) || ok && binary.LittleEndian.Uint64(setup.payload[24:]) != c.smbios {
			t.Errorf("%s: node %x", name, setup.payload)
		}
		if !ok && !bytes.Equal(img.params[0x1c0:0x1e0], make([]byte, 32)) {
			t.Errorf("%s: efi_info %x", name, img.params[0x1c0:0x1e0])
		}
	}
	for name, change := range map[string]func(fstest.MapFS){
		"fw_vendor":    func(r fstest.MapFS) { delete(r, "sys/firmware/efi/fw_vendor") },
		"config_table": func(r fstest.MapFS) { r["sys/firmware/efi/config_table"] = file("odd\n") },
		"runtime-map":  func(r fstest.MapFS) { delete(r, "sys/firmware/efi/runtime-map/3/virt_addr") },
	} {
		root := efiRoot(t)
		change(root)
		if _, err := tryPlan(testLinux(), root, 1, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is damaged: %v", name, err)
		}
	}
}
