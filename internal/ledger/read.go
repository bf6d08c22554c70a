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
	Size     uint64 // their bytes, as the kernel counts them
	headless bool   // the list as it was first read lacked its oldest records
	old      int    // records of template "ima"
	first    int    // the first record that no kernel restores,
	refused  error  // and why; nil: there is none
	ThisBoot
}

// ThisBoot is what the records of the present boot tell.
type ThisBoot struct {
	Alg      uint16 // of the digests that it makes (ima_hash=); 0: not seen
	algOf    string // the record that tells, "boot_aggregate" being the poorer source
	Critical bool   // it measures critical data
	Segment  uint64 // kexec_segment_size of its own last kexec_load
	deleted  uint64 // the oldest records that the list lacks and that its own events
	gone     uint64 // go on counting, and their bytes
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

// Counts is the number of records, and the bytes with the header of a kexec buffer, that
// the kernel says in its next event. Not known: records were deleted, and no event since
// tells how many it counts.
func (k *Kernel) Counts() (records, size uint64, known bool) {
	return uint64(k.Records) + k.deleted, imalog.HeaderSize + k.Size + k.gone, !k.headless || k.deleted > 0
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
	b, err := rec.AppendBinary(l.tail)
	if err != nil {
		return err
	}
	l.tail = b
	l.tailRecords++
	if l.kernel.Records == 0 {
		l.kernel.headless = !rec.BootAggregate()
	}
	l.kernel.notice(rec)
	l.kernel.Records++
	l.kernel.Size += uint64(rec.KernelSize())
	if rec.Template == "ima" {
		l.kernel.old++ // they are rewritten: see restorable
	} else if err := rec.Restorable(); err != nil && l.kernel.refused == nil {
		l.kernel.first, l.kernel.refused = l.kernel.Records-1, err
	}
	return nil
}

// reread goes on with a list whose oldest records were deleted since they were
// read (Linux 7.2), so that nobody can say where the new ones begin: what is here of
// the old ones stays in the list that is handed over, and the longest beginning of the
// list that is their end is not read twice. Replay tells whether it fits.
func (l *Ledger) reread() error {
	l.list.Close()
	l.list = imalog.Live(l.FS, nil)
	var fresh []imalog.Record
	var encoded [][]byte
	for {
		rec, err := l.list.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		b, err := rec.AppendBinary(nil)
		if err != nil {
			return err
		}
		fresh, encoded = append(fresh, rec.Clone()), append(encoded, b)
	}
	for i := overlap(l.kernelRecords(), encoded); i < len(fresh); i++ {
		if err := l.add(&fresh[i]); err != nil {
			return err
		}
	}
	return nil
}

// kernelRecords are those of the kernel that were read, encoded.
func (l *Ledger) kernelRecords() (all [][]byte) {
	for rec, isOwn := range records(l.body, l.own) {
		if !isOwn {
			all = append(all, rec)
		}
	}
	for rec := range records(l.tail, nil) {
		all = append(all, rec)
	}
	return all
}

// overlap returns the length of the longest beginning of b that is an end of a
// (Knuth, Morris and Pratt).
func overlap(a, b [][]byte) int {
	shorter := make([]int, len(b)+1) // by length of a beginning: the longest shorter one that is its end
	step := func(n int, rec []byte) int {
		for n > 0 && (n == len(b) || !bytes.Equal(b[n], rec)) {
			n = shorter[n]
		}
		if n < len(b) && bytes.Equal(b[n], rec) {
			n++
		}
		return n
	}
	for i := 1; i < len(b); i++ {
		shorter[i+1] = step(shorter[i], b[i])
	}
	n := 0
	for _, rec := range a {
		n = step(n, rec)
	}
	return n
}

func (k *Kernel) notice(rec *imalog.Record) {
	buf, name := rec.Buf(), rec.Name()
	switch {
	case rec.BootAggregate():
		k.ThisBoot = ThisBoot{}
	case buf == nil:
		return
	case name == "kernel_version": // label kernel_info, measured at every boot
		k.Critical = true
	case name == events.KexecLoad || name == events.KexecExecute:
		f, err := events.ParseFigures(buf)
		if err != nil {
			break
		}
		if name == events.KexecLoad {
			k.Segment = f.SegmentSize
		}
		if size := imalog.HeaderSize + k.Size; k.headless && f.Count >= uint64(k.Records) && f.ListSize >= size {
			k.deleted, k.gone = f.Count-uint64(k.Records), f.ListSize-size
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
