package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// ErrNoList says that the kernel shows no list.
var ErrNoList = errors.New("no IMA measurement list")

// Kernel is what the kernel's records tell of the kernel.
type Kernel struct {
	Records  int    // in its list
	Size     uint64 // their bytes
	Alg      uint16 // of the digests that it makes (ima_hash=); 0: not seen
	algOf    string // the record that tells, "boot_aggregate" being the poorer source
	Critical bool   // it measures critical data
	Segment  uint64 // kexec_segment_size of its own last kexec_load
	last     []byte // the last record, encoded
	old      int    // records of template "ima"
	first    int    // the first record that no kernel restores,
	refused  error  // and why; nil: there is none
}

// read takes over what the kernel has added to its list.
func (l *Ledger) read(ctx context.Context) error {
	for busy := 0; ; {
		rec, err := l.list.Next()
		switch {
		case err == nil:
			if err := l.add(rec); err != nil {
				return err
			}
			if l.kernel.Records%4096 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
		case err == io.EOF:
			return nil
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: build the kernel with CONFIG_IMA, or mount securityfs on /sys/kernel/security: %w", ErrNoList, err)
		case errors.Is(err, imalog.ErrShrunk):
			return l.reread()
		case errors.Is(err, imalog.ErrBusy) && busy < 50: // somebody deletes records: soon done
			busy++
			if err := wait(ctx, lookEvery); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// Refused says whether the list has a record that no kernel restores: that one and
// all behind it are lost on the way. It returns how many of the kernel's these are, and
// why.
func (k *Kernel) Refused() (records int, why error) {
	if k.refused == nil {
		return 0, nil
	}
	return k.Records - k.first, fmt.Errorf("record %d: %w", k.first, k.refused)
}

// add puts one record of the kernel behind the tail.
func (l *Ledger) add(rec *imalog.Record) error {
	start := len(l.tail)
	b, err := rec.AppendBinary(l.tail)
	if err != nil {
		return err
	}
	l.tail = b
	l.tailRecords++
	l.kernel.Records++
	l.kernel.Size += uint64(len(b) - start)
	l.kernel.last = append(l.kernel.last[:0], b[start:]...)
	if rec.Template == "ima" {
		l.kernel.old++ // they are rewritten: see restorable
	} else if err := rec.Restorable(); err != nil && l.kernel.refused == nil {
		l.kernel.first, l.kernel.refused = l.kernel.Records-1, err
	}
	l.kernel.notice(rec)
	return nil
}

// reread goes on with a list whose oldest records were deleted since they were
// read (Linux 7.2): what is here of them stays in the list that is handed over,
// and what follows the last one read is new. Replay tells whether it fits.
func (l *Ledger) reread() error {
	l.list.Close()
	l.list = imalog.Live(l.FS, nil)
	var fresh []imalog.Record
	next := 0 // index of the first new one
	var b []byte
	for {
		rec, err := l.list.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if b, err = rec.AppendBinary(b[:0]); err != nil {
			return err
		}
		fresh = append(fresh, rec.Clone())
		if bytes.Equal(b, l.kernel.last) {
			next = len(fresh)
		}
	}
	for i := range fresh[next:] {
		if err := l.add(&fresh[next+i]); err != nil {
			return err
		}
	}
	return nil
}

func (k *Kernel) notice(rec *imalog.Record) {
	buf, name := rec.Buf(), rec.Name()
	switch {
	case rec.BootAggregate():
		*k = Kernel{Records: k.Records, Size: k.Size, last: k.last, old: k.old, first: k.first, refused: k.refused}
	case buf == nil:
		return
	case name == "kernel_version": // label kernel_info, measured at every boot
		k.Critical = true
	case name == events.KexecLoad:
		if f, err := events.ParseFigures(buf); err == nil {
			k.Segment = f.SegmentSize
		}
	}
	// boot_aggregate may have another digest than ima_hash= says: that of a bank
	// which the TPM has (security/integrity/ima/ima_init.c: ima_add_boot_aggregate).
	if k.Alg == 0 || k.algOf == "boot_aggregate" {
		if d, ok := rec.FileDigest(); ok {
			if alg, known := imalog.AlgByName(d.Alg()); known {
				k.Alg, k.algOf = alg, name
			}
		}
	}
}

// guessPadded names the banks that this kernel extends with the padded SHA-1
// digest: those whose hash was not there when IMA started, which is before any
// module was loaded.
func guessPadded(fsys fs.FS, v imalog.Values) []uint16 {
	crypto, err := fs.ReadFile(fsys, "proc/crypto")
	if err != nil {
		return nil
	}
	builtIn := map[string]bool{"sha1": true}
	for entry := range strings.SplitSeq(string(crypto), "\n\n") {
		var name, module string
		for line := range strings.Lines(entry) {
			key, value, _ := strings.Cut(line, ":")
			switch strings.TrimSpace(key) {
			case "name":
				name = strings.TrimSpace(value)
			case "module":
				module = strings.TrimSpace(value)
			}
		}
		if module == "kernel" {
			builtIn[name] = true
		}
	}
	var padded []uint16
	for alg := range v {
		if !builtIn[imalog.AlgName(alg)] {
			padded = append(padded, alg)
		}
	}
	return padded
}
