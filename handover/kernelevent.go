package handover

import (
	"bufio"
	"bytes"
	"io/fs"
	"strings"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// A kernel that fills the buffer at execute itself (Linux 6.16, CONFIG_IMA_KEXEC)
// and measures critical data also does so when it was loaded through
// kexec_load(2): it adds a kexec_execute of its own inside reboot(2), after every
// reading of the list (security/integrity/ima/ima_kexec.c: ima_update_kexec_buffer).
// The record can be told beforehand, and is handed over as the list's last.

// KernelEvent says whether the running kernel measures a kexec_execute by itself.
type KernelEvent int

const (
	// KernelEventAuto finds out: from the kernel's symbols, and from its policy or,
	// where that cannot be read, from other critical data of this boot in the list.
	KernelEventAuto KernelEvent = iota
	// KernelEventNo says that it does not.
	KernelEventNo
	// KernelEventYes says that it does.
	KernelEventYes
)

// kernelMeasures answers KernelEventAuto.
func kernelMeasures(fsys fs.FS, l *ledger) bool {
	if !hasSymbol(fsys, "ima_measure_kexec_event") {
		return false
	}
	if policy, err := fs.ReadFile(fsys, "sys/kernel/security/ima/policy"); err == nil && len(policy) > 0 {
		return policyMeasures(policy)
	}
	return l.critical
}

// policyMeasures looks for a rule that measures the label of the kexec events
// (Documentation/ABI/testing/ima_policy).
func policyMeasures(policy []byte) bool {
	for line := range strings.Lines(string(policy)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "measure" {
			continue
		}
		critical, label := false, true
		for _, word := range words[1:] {
			if word == "func=CRITICAL_DATA" {
				critical = true
			}
			if list, ok := strings.CutPrefix(word, "label="); ok {
				label = false
				for name := range strings.SplitSeq(list, "|") {
					label = label || name == "ima_kexec"
				}
			}
		}
		if critical && label {
			return true
		}
	}
	return false
}

// hasSymbol looks a function up in the running kernel. Names can be read without
// privilege, addresses are not asked for.
func hasSymbol(fsys fs.FS, name string) bool {
	f, err := fsys.Open("proc/kallsyms")
	if err != nil {
		return false
	}
	defer f.Close()
	want := []byte(name)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := bytes.Fields(lines.Bytes()); len(fields) >= 3 && bytes.Equal(fields[2], want) {
			return true
		}
	}
	return false
}

// kernelExecute is the record that the kernel is about to add, with the figures
// of its own list: it knows nothing of what user space measured.
func (h *Handover) kernelExecute() (imalog.Record, error) {
	l := h.ledger
	return events.PredictExecute(events.Figures{
		SegmentSize: l.kernelSegment,
		ListSize:    imalog.HeaderSize + uint64(l.kernelBytes),
		Count:       uint64(l.kernel),
	}, &events.RecordOptions{PCR: h.opts.PCR, Alg: l.alg})
}
