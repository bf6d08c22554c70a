package handover

import (
	"bufio"
	"bytes"
	"io/fs"
	"strconv"
	"strings"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/ledger"
)

// KernelEvent says whether the running kernel measures a kexec_execute by itself.
//
// A kernel that fills the buffer at execute (Linux 6.16, CONFIG_IMA_KEXEC) and
// measures critical data also does so when it was loaded through kexec_load(2): it
// adds a kexec_execute of its own inside reboot(2), after every reading of the list
// (security/integrity/ima/ima_kexec.c: ima_update_kexec_buffer). The record can be
// told beforehand and is handed over as the list's last; user space then measures
// none.
type KernelEvent int

const (
	// KernelEventAuto finds out: from the kernel's symbols, and from its policy or,
	// where that cannot be read, from other critical data of this boot in the list.
	// A policy that was replaced at run time and cannot be read may mislead it.
	KernelEventAuto KernelEvent = iota
	// KernelEventNo says that it does not.
	KernelEventNo
	// KernelEventYes says that it does.
	KernelEventYes
)

// kernelMeasures answers KernelEventAuto, and says into which PCR.
func kernelMeasures(fsys fs.FS, k *ledger.Kernel, pcr uint32) (uint32, bool) {
	if !hasSymbol(fsys, "ima_measure_kexec_event") {
		return 0, false
	}
	if policy, err := fs.ReadFile(fsys, "sys/kernel/security/ima/policy"); err == nil && len(policy) > 0 {
		return policyMeasures(policy, pcr)
	}
	return pcr, k.Critical
}

// policyMeasures looks for the first rule on the label of the kexec events
// (Documentation/ABI/testing/ima_policy), and for the PCR that it names.
func policyMeasures(policy []byte, pcr uint32) (uint32, bool) {
	for line := range strings.Lines(string(policy)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "measure" && words[0] != "dont_measure" {
			continue
		}
		critical, label := false, true
		into := pcr
		for _, word := range words[1:] {
			key, value, _ := strings.Cut(word, "=")
			switch key {
			case "func":
				critical = value == "CRITICAL_DATA"
			case "label":
				label = false
				for name := range strings.SplitSeq(value, "|") {
					label = label || name == "ima_kexec"
				}
			case "pcr":
				if n, err := strconv.ParseUint(value, 10, 32); err == nil {
					into = uint32(n)
				}
			}
		}
		if critical && label {
			return into, words[0] == "measure"
		}
	}
	return 0, false
}

// hasSymbol looks a function up in the running kernel, be it under a name that the
// compiler has lengthened (".isra.0"). Names can be read without privilege;
// addresses are not asked for.
func hasSymbol(fsys fs.FS, name string) bool {
	f, err := fsys.Open("proc/kallsyms")
	if err != nil {
		return false
	}
	defer f.Close()
	want := []byte(name)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := bytes.Fields(lines.Bytes()); len(fields) >= 3 {
			if symbol, _, _ := bytes.Cut(fields[2], []byte(".")); bytes.Equal(symbol, want) {
				return true
			}
		}
	}
	return false
}

// kernelExecute is the record that the kernel is about to add, with the figures
// of its own list: it knows nothing of what user space measured.
func (h *Handover) kernelExecute() (imalog.Record, error) {
	k := h.ledger.Kernel()
	records, size, known := k.Counts()
	if !known {
		h.opts.Logger.Warn("records were deleted from the list, and nothing tells how many the kernel goes on counting: its kexec_execute is guessed")
	}
	return events.PredictExecute(events.Figures{SegmentSize: k.Segment, ListSize: size, Count: records},
		&events.RecordOptions{PCR: h.kernelPCR, Alg: k.Alg})
}
