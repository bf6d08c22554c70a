package imalog

import (
	"bytes"
	"iter"
	"strconv"
)

// A Boot is the part of a list that one kernel measured: from its boot_aggregate
// to the next.
type Boot struct {
	First   int // index of its first record
	Records int
	// Whole is false for a list that begins within a boot: its oldest records
	// were deleted.
	Whole bool
	// Kernel is the kernel's release, from the record kernel_version that a policy
	// with func=CRITICAL_DATA adds; "" without it.
	Kernel string
	// Load and Execute are the indexes of the boot's last kexec_load and
	// kexec_execute, -1 where it has none. A boot that ended with a kexec and whose
	// records all arrived ends with a kexec_execute, where the kernel, or what
	// handed the list over, measures one.
	Load, Execute int
}

// Names of records that tell of a boot.
const (
	kernelVersion = "kernel_version"
	kexecLoad     = "kexec_load"
	kexecExecute  = "kexec_execute"
)

// kernelVersionWithin is the number of records after the begin of a boot within
// which kernel_version is looked for: it comes right after boot_aggregate.
const kernelVersionWithin = 8

// Boots cuts a list at each boot_aggregate. With an error of the list it returns
// the boots before it.
func Boots(list iter.Seq2[Record, error]) ([]Boot, error) {
	var boots []Boot
	i := 0
	for rec, err := range list {
		if err != nil {
			return boots, err
		}
		name := rec.name()
		begins := string(name) == bootAggregate
		if begins || i == 0 {
			boots = append(boots, Boot{First: i, Whole: begins, Load: -1, Execute: -1})
		}
		b := &boots[len(boots)-1]
		b.Records++
		switch string(name) {
		case kernelVersion:
			if b.Kernel == "" {
				b.Kernel = string(rec.Buf())
			}
		case kexecLoad:
			b.Load = i
		case kexecExecute:
			b.Execute = i
		}
		i++
	}
	return boots, nil
}

// figures are the payload of kexec_load and kexec_execute
// (security/integrity/ima/ima_kexec.c: ima_measure_kexec_event).
type figures struct {
	segment, size, count uint64
	ok                   bool
}

func parseFigures(payload []byte) (f figures) {
	found := 0
	for field := range bytes.SplitSeq(payload, []byte{';'}) {
		name, value, _ := bytes.Cut(field, []byte{'='})
		n, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			continue
		}
		switch string(name) {
		case "kexec_segment_size":
			f.segment = n
		case "ima_binary_runtime_size":
			f.size = n
		case "ima_runtime_measurements_count":
			f.count = n
		default:
			continue
		}
		found++
	}
	f.ok = found == 3
	return f
}

func (f figures) append(b []byte) []byte {
	b = append(b, "kexec_segment_size="...)
	b = strconv.AppendUint(b, f.segment, 10)
	b = append(b, ";ima_binary_runtime_size="...)
	b = strconv.AppendUint(b, f.size, 10)
	b = append(b, ";ima_runtime_measurements_count="...)
	b = strconv.AppendUint(b, f.count, 10)
	return append(b, ';')
}
