//go:build linux

package vmtest

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/sys/unix"
)

// PCRs holds the values of all 24 PCRs of each bank, by the bank's name ("sha1").
type PCRs map[string][24][]byte

// ReadPCRs reads every PCR of every bank that has all 24.
func ReadPCRs(tpm transport.TPM) (PCRs, error) {
	caps, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(tpm)
	if err != nil {
		return nil, fmt.Errorf("vmtest: PCR banks: %w", err)
	}
	banks, err := caps.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, fmt.Errorf("vmtest: PCR banks: %w", err)
	}
	pcrs := make(PCRs)
	for _, bank := range banks.PCRSelections {
		name := algName(bank.Hash)
		if len(bank.PCRSelect) < 3 || bank.PCRSelect[0]&bank.PCRSelect[1]&bank.PCRSelect[2] != 0xff {
			continue
		}
		var values [24][]byte
		for i := 0; i < len(values); i += 8 { // a TPM returns eight at a time
			sel := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
				Hash:      bank.Hash,
				PCRSelect: make([]byte, 3),
			}}}
			sel.PCRSelections[0].PCRSelect[i/8] = 0xff
			rsp, err := tpm2.PCRRead{PCRSelectionIn: sel}.Execute(tpm)
			if err != nil {
				return nil, fmt.Errorf("vmtest: PCR %d of %s: %w", i, name, err)
			}
			if len(rsp.PCRValues.Digests) != 8 {
				return nil, fmt.Errorf("vmtest: PCR %d of %s: %d values", i, name, len(rsp.PCRValues.Digests))
			}
			for j, d := range rsp.PCRValues.Digests {
				values[i+j] = d.Buffer
			}
		}
		pcrs[name] = values
	}
	return pcrs, nil
}

func algName(alg tpm2.TPMAlgID) string {
	switch alg {
	case tpm2.TPMAlgSHA1:
		return "sha1"
	case tpm2.TPMAlgSHA256:
		return "sha256"
	case tpm2.TPMAlgSHA384:
		return "sha384"
	case tpm2.TPMAlgSHA512:
		return "sha512"
	}
	return fmt.Sprintf("alg%04x", uint16(alg))
}

// evmctl prints one bank in the form that "evmctl ima_measurement --pcrs" reads.
func (p PCRs) evmctl(bank string) []byte {
	var b strings.Builder
	for i, v := range p[bank] {
		fmt.Fprintf(&b, "PCR-%02d: % X\n", i, v)
	}
	return []byte(b.String())
}

// text prints all banks, "sha1:00 3a3f...", a line for each PCR.
func (p PCRs) text() []byte {
	var names []string
	for name := range p {
		names = append(names, name)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, name := range names {
		for i, v := range p[name] {
			fmt.Fprintf(&b, "%s:%02d %s\n", name, i, hex.EncodeToString(v))
		}
	}
	return []byte(b.String())
}

// imaDir is where the kernel shows its measurement list.
const imaDir = "/sys/kernel/security/ima"

// List is the binary measurement list as it is now, SHA-1 digests.
func (g *Guest) List() []byte { return g.ReadFile(imaDir + "/binary_runtime_measurements") }

// PCRs reads the machine's PCRs.
func (g *Guest) PCRs() PCRs {
	p, err := ReadPCRs(g.TPM())
	g.Check(err, "read PCRs")
	return p
}

// Capture sends the state of the machine's measurements to the host under a name:
// lists and counts, PCRs in both forms, memory maps, the kernel's messages. See
// Result.Capture.
func (g *Guest) Capture(name string) {
	lists, err := filepath.Glob(imaDir + "/*_runtime_measurements*")
	g.Check(err, "list measurements")
	for _, path := range append(lists, imaDir+"/runtime_measurements_count", imaDir+"/violations",
		"/proc/cmdline", "/proc/version",
		"/sys/kernel/security/tpm0/binary_bios_measurements", "/sys/firmware/fdt") {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // not every kernel has each of them; the judge misses those it needs
		}
		g.Put(name+"/"+filepath.Base(path), b)
	}
	g.Put(name+"/iomem.txt", g.ReadFile("/proc/iomem"))
	g.Put(name+"/firmware_memmap.txt", firmwareMemmap())
	g.Put(name+"/dmesg.txt", dmesg())
	if !g.HasTPM() {
		return
	}
	pcrs := g.PCRs()
	g.Put(name+"/pcrs.txt", pcrs.text())
	for bank := range pcrs {
		g.Put(name+"/pcrs."+bank, pcrs.evmctl(bank))
	}
}

// firmwareMemmap prints /sys/firmware/memmap, "START-END TYPE" for each entry.
func firmwareMemmap() []byte {
	var b strings.Builder
	for i := 0; ; i++ {
		dir := fmt.Sprintf("/sys/firmware/memmap/%d/", i)
		end := readFile(dir + "end")
		if end == nil {
			return []byte(b.String())
		}
		fmt.Fprintf(&b, "%s-%s %s\n", strings.TrimSpace(string(readFile(dir+"start"))),
			strings.TrimSpace(string(end)), strings.TrimSpace(string(readFile(dir+"type"))))
	}
}

// dmesg returns the kernel's messages.
func dmesg() []byte {
	b := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, b)
	if err != nil {
		return []byte(err.Error())
	}
	return b[:n]
}
