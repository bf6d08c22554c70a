package events

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/imakexec/imakexec/imalog"
)

// Labels by which a policy selects the kernel's own critical data
// ("measure func=CRITICAL_DATA label=...").
const (
	LabelKexec        = "ima_kexec"     // security/integrity/ima/ima_kexec.c
	LabelKernel       = "kernel_info"   // security/integrity/ima/ima_init.c
	LabelSELinux      = "selinux"       // security/selinux/ima.c
	LabelDeviceMapper = "device-mapper" // drivers/md/dm-ima.c
)

// KernelVersion is the event that holds the kernel's release, as uname -r
// prints it (security/integrity/ima/ima_init.c: ima_init).
const KernelVersion = "kernel_version"

// known are the events that kernels measure.
var known = [...]struct{ name, label string }{
	{KexecLoad, LabelKexec},
	{KexecExecute, LabelKexec},
	{KernelVersion, LabelKernel},
	{"selinux-state", LabelSELinux},
	{"selinux-policy-hash", LabelSELinux},
	{"dm_table_load", LabelDeviceMapper},
	{"dm_device_resume", LabelDeviceMapper},
	{"dm_device_remove", LabelDeviceMapper},
	{"dm_table_clear", LabelDeviceMapper},
	{"dm_device_rename", LabelDeviceMapper},
}

func labelOf(name string) string {
	for _, k := range known {
		if k.name == name {
			return k.label
		}
	}
	return ""
}

// Why ParseEvent refuses.
var (
	// ErrNotEvent: the record holds no buffer: it measures a file.
	ErrNotEvent = errors.New("not a measured buffer")
	// ErrDigest: the digest in the record is not that of the data in it.
	ErrDigest = errors.New("digest does not match the data")
)

// An Event is a measured buffer: critical data of the kernel or of user space.
type Event struct {
	// Label is the group by which a policy selects the event. A record does not
	// hold it: ParseEvent knows those of the kernel's own events and leaves that
	// of others, and of what is not critical data, empty.
	Label string
	// Name is the event's name; in a record spaces have become underscores.
	Name string
	// Data is what was measured, as it was.
	Data []byte
}

// Record builds the record of a caller's own event, as NewRecord does, with the
// kernel's further refusal: an event needs a label (ErrLabel), and one that a
// policy can name, so without blanks and '|', which part labels there.
//
// Source: security/integrity/ima/ima_main.c: ima_measure_critical_data,
// ima_policy.c: ima_parse_rule.
func (e *Event) Record(opts *RecordOptions) (imalog.Record, error) {
	if e.Label == "" || strings.ContainsAny(e.Label, "|\x00 \t\r\n") {
		return imalog.Record{}, fmt.Errorf("events: record %q: label %q: %w", e.Name, e.Label, ErrLabel)
	}
	return NewRecord(e.Name, e.Data, opts)
}

// ParseEvent reads the event that a record holds; Data aliases the record's.
// Keys (named after their keyring) and kexec-cmdline, which are measured like
// critical data, are events without a label.
//
// It fails with ErrNotEvent for a record without a buffer, among them files in
// a list whose template is ima-buf, and with ErrDigest, the event all the same,
// where d-ng is not the digest of the data. A hash that the library lacks is not
// checked.
func ParseEvent(rec *imalog.Record) (Event, error) {
	data := rec.Buf()
	if len(data) == 0 {
		return Event{}, fmt.Errorf("events: %q: %w", rec.Name(), ErrNotEvent)
	}
	e := Event{Label: labelOf(rec.Name()), Name: rec.Name(), Data: data}
	alg, digest, ok := eventDigest(rec)
	if !ok {
		return e, nil
	}
	h := newHash(alg)
	if h == nil {
		return e, nil
	}
	h.Write(data)
	if !bytes.Equal(h.Sum(nil), digest) {
		return e, fmt.Errorf("events: %q: %w", e.Name, ErrDigest)
	}
	return e, nil
}

// eventDigest is the digest of what was measured, where its algorithm is known.
func eventDigest(rec *imalog.Record) (alg uint16, digest []byte, ok bool) {
	d, found := rec.FileDigest()
	alg, known := imalog.AlgByName(d.Alg())
	return alg, d.Sum, found && known
}
