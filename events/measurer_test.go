package events

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/softtpm"
)

const bootA, bootB = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"

func openJournal(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := OpenJournal(dir, &JournalOptions{BootID: bootA})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func newMeasurer(t testing.TB, opts *softtpm.Options) (*Measurer, *softtpm.TPM) {
	t.Helper()
	tpm := softtpm.New(opts)
	return &Measurer{TPM: tpm, Journal: openJournal(t, filepath.Join(t.TempDir(), "state"))}, tpm
}

func fourBanks() *softtpm.Options {
	return &softtpm.Options{Banks: []softtpm.Bank{softtpm.SHA1(), softtpm.SHA256(), softtpm.SHA384(), softtpm.SHA512()}}
}

func record(t testing.TB, name, data string) imalog.Record {
	t.Helper()
	rec, err := NewRecord(name, []byte(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// kernelExtend extends a record as the kernel does, beside the Measurer.
func kernelExtend(t testing.TB, tpm *softtpm.TPM, rec *imalog.Record) {
	t.Helper()
	var digests []tpm2.TPMTHA
	for _, alg := range []uint16{imalog.AlgSHA1, imalog.AlgSHA256} {
		d, err := rec.AppendDigest(nil, alg)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgID(alg), Digest: d})
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(rec.PCR), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: digests},
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
}

func replay(t testing.TB, banks []uint16, list ...imalog.Record) imalog.Values {
	t.Helper()
	r := imalog.NewReplayer(&imalog.ReplayOptions{Banks: banks})
	for i := range list {
		if err := r.Add(&list[i]); err != nil {
			t.Fatal(err)
		}
	}
	return r.Values()
}

func TestMeasureFourBanks(t *testing.T) {
	m, tpm := newMeasurer(t, fourBanks())
	banks := []uint16{imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512}
	var list []imalog.Record
	for i, rec := range []imalog.Record{record(t, KexecLoad, "a"), record(t, KexecExecute, "b")} {
		before := replay(t, banks, list...)
		list = append(list, rec)
		got, err := m.Measure(t.Context(), &rec, 7+i)
		if err != nil {
			t.Fatal(err)
		}
		if want := replay(t, banks, list...); got.Outcome != Done || !got.Before.Equal(before) || !got.After.Equal(want) {
			t.Errorf("record %d: %v\nbefore %x\nafter  %x\nwant   %x", i, got.Outcome, got.Before, got.After, want)
		}
		e := m.Journal.Entries()[i]
		if e.Seq != uint64(i+1) || e.Count != 7+i || e.State != Extended || !sameRecord(&e.Record, &rec) || !e.Before.Equal(before) || !e.After.Equal(got.After) {
			t.Errorf("record %d: journal has %+v", i, e)
		}
	}
	if n := tpm.Extends(); n != 2 {
		t.Errorf("%d extend commands for 2 records in 4 banks", n)
	}
}

func TestMeasurePadded(t *testing.T) {
	m, tpm := newMeasurer(t, fourBanks())
	m.Padded = func(alg uint16) bool { return alg == imalog.AlgSHA512 || alg == imalog.AlgSHA384 }
	rec := record(t, "x", "data")
	if _, err := m.Measure(t.Context(), &rec, 0); err != nil {
		t.Fatal(err)
	}
	sha512 := sha512.Sum512(append(make([]byte, 64), append(bytes.Clone(rec.Digest), make([]byte, 44)...)...))
	if got := tpm.Value(tpm2.TPMAlgSHA512, 10); !bytes.Equal(got, sha512[:]) {
		t.Errorf("sha512 bank %x, want %x", got, sha512)
	}
	if got, want := tpm.Value(tpm2.TPMAlgSHA256, 10), replay(t, []uint16{imalog.AlgSHA256}, rec)[imalog.AlgSHA256]; !bytes.Equal(got, want) {
		t.Errorf("sha256 bank %x, want %x", got, want)
	}
}

// TestMeasureUnknownBank has a bank of an algorithm that the library cannot
// compute, standing in for SM3: SHA-512/256 under SM3's number.
func TestMeasureUnknownBank(t *testing.T) {
	sm3 := softtpm.Bank{Alg: tpm2.TPMAlgID(imalog.AlgSM3_256), New: sha512.New512_256}
	data := func(rec *imalog.Record) []byte {
		sum := sha512.Sum512_256(rec.Data)
		return sum[:]
	}
	pad := func(rec *imalog.Record) []byte { return append(bytes.Clone(rec.Digest), make([]byte, 12)...) }
	zero := make([]byte, 32)
	chain := func(digest []byte) []byte {
		sum := sha512.Sum512_256(append(bytes.Clone(zero), digest...))
		return sum[:]
	}
	tests := []struct {
		name string
		set  func(*Measurer)
		want func(*imalog.Record) []byte // the bank afterwards; nil: refused
	}{
		{"refused", func(*Measurer) {}, nil},
		{"hash brought", func(m *Measurer) {
			m.Hashes = map[uint16]func() hash.Hash{imalog.AlgSM3_256: sha512.New512_256}
		}, func(rec *imalog.Record) []byte { return chain(data(rec)) }},
		{"padded", func(m *Measurer) { m.Padded = func(alg uint16) bool { return alg == imalog.AlgSM3_256 } },
			func(rec *imalog.Record) []byte { return chain(pad(rec)) }},
		{"left out", func(m *Measurer) { m.LeaveOut = []uint16{imalog.AlgSM3_256} },
			func(*imalog.Record) []byte { return zero }},
	}
	for _, tt := range tests {
		for _, dies := range []bool{false, true} {
			m, tpm := newMeasurer(t, &softtpm.Options{Banks: []softtpm.Bank{softtpm.SHA1(), sm3}})
			tt.set(m)
			if dies {
				tpm.Inject(softtpm.Fault{Command: tpm2.TPMCCPCRExtend, Err: errors.New("dead"), Done: true})
			}
			rec := record(t, "x", "y")
			got, err := m.Measure(t.Context(), &rec, 0)
			if tt.want == nil {
				if !errors.Is(err, ErrBank) || got.Outcome != NotDone || tpm.Extends() != 0 || len(m.Journal.Entries()) != 0 {
					t.Errorf("%s: %v, %v, %d extends, journal %v", tt.name, got.Outcome, err, tpm.Extends(), m.Journal.Entries())
				}
				continue
			}
			if err != nil || got.Outcome != Done {
				t.Errorf("%s (dies %v): %v, %v", tt.name, dies, got.Outcome, err)
			}
			if v := tpm.Value(tpm2.TPMAlgID(imalog.AlgSM3_256), 10); !bytes.Equal(v, tt.want(&rec)) || !bytes.Equal(v, got.After[imalog.AlgSM3_256]) {
				t.Errorf("%s: bank is %x, want %x", tt.name, v, tt.want(&rec))
			}
		}
	}
}

// TestMeasureFaults goes through the ways a TPM fails. Whatever happens, the
// record is extended once at most, the outcome is the truth or Unknown, and the
// journal never says less than the PCR holds.
func TestMeasureFaults(t *testing.T) {
	dead := errors.New("the transport died")
	const ext, rd = tpm2.TPMCCPCRExtend, tpm2.TPMCCPCRRead
	tests := []struct {
		name    string
		faults  []softtpm.Fault
		stray   bool // another extends just then
		outcome Outcome
		err     error
		extends int // of ours
		state   State
	}{
		{"retry twice", []softtpm.Fault{{Command: ext, RC: tpm2.TPMRCRetry, Times: 2}}, false, Done, nil, 1, Extended},
		{"yielded", []softtpm.Fault{{Command: ext, RC: tpm2.TPMRCYielded}}, false, Done, nil, 1, Extended},
		{"testing, every command", []softtpm.Fault{{RC: tpm2.TPMRCTesting, Times: 3}}, false, Done, nil, 1, Extended},
		{"busy for ever", []softtpm.Fault{{Command: ext, RC: tpm2.TPMRCRetry, Times: -1}}, false, NotDone, tpm2.TPMRCRetry, 0, Dropped},
		{"answers an error", []softtpm.Fault{{Command: ext, RC: tpm2.TPMRCLocality}}, false, NotDone, tpm2.TPMRCLocality, 0, Dropped},
		{"dies before", []softtpm.Fault{{Command: ext, Err: dead}}, false, NotDone, dead, 0, Unsettled},
		{"dies after", []softtpm.Fault{{Command: ext, Err: dead, Done: true}}, false, Done, nil, 1, Extended},
		{"dies before, a stranger extends", []softtpm.Fault{{Command: ext, Err: dead}}, true, Unknown, dead, 0, Unsettled},
		{"dies after, a stranger extends", []softtpm.Fault{{Command: ext, Err: dead, Done: true}}, true, Unknown, dead, 1, Unsettled},
		{"dies for good before", []softtpm.Fault{{Command: ext, Err: dead}, {Command: rd, Err: dead, Skip: 1, Times: -1}}, false, Unknown, dead, 0, Unsettled},
		{"dies for good after", []softtpm.Fault{{Command: ext, Err: dead, Done: true}, {Command: rd, Err: dead, Skip: 1, Times: -1}}, false, Unknown, dead, 1, Unsettled},
		{"dies once it is done", []softtpm.Fault{{Command: rd, Err: dead, Skip: 1, Times: -1}}, false, Done, nil, 1, Extended},
		{"busy once it is done", []softtpm.Fault{{Command: rd, RC: tpm2.TPMRCRetry, Skip: 1, Times: 2}}, false, Done, nil, 1, Extended},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, tpm := newMeasurer(t, nil)
			stranger, rec := record(t, "stranger", "s"), record(t, KexecLoad, "x")
			if _, err := m.Values(t.Context()); err != nil { // the banks are known
				t.Fatal(err)
			}
			kernelExtend(t, tpm, &stranger)
			start := tpm.Extends()
			for _, f := range tt.faults {
				tpm.Inject(f)
			}
			tpmOrStray := m.TPM
			if tt.stray {
				m.TPM = strayAfterError{tpm, func() { kernelExtend(t, tpm, &stranger) }}
			}
			if errors.Is(tt.err, tpm2.TPMRCRetry) {
				m.Patience = 100 * time.Millisecond
			}
			got, err := m.Measure(t.Context(), &rec, 1)
			m.TPM, m.Patience = tpmOrStray, 0
			if (tt.err == nil) != (err == nil) || !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			var me *MeasureError
			if err != nil && (!errors.As(err, &me) || me.Outcome != got.Outcome || me.Step != "extend") {
				t.Errorf("error is %#v", err)
			}
			if got.Outcome != tt.outcome {
				t.Errorf("outcome %v, want %v", got.Outcome, tt.outcome)
			}
			ours := tpm.Extends() - start
			if tt.stray {
				ours--
			}
			if ours != tt.extends {
				t.Errorf("extended %d times, want %d", ours, tt.extends)
			}
			e := m.Journal.Entries()
			if len(e) != 1 || e[0].State != tt.state || got.Entry.State != tt.state {
				t.Errorf("journal %+v, entry %v, want %v", e, got.Entry.State, tt.state)
			}
			// The next one is measured as if nothing had been.
			tpm.Repair()
			next := record(t, KexecExecute, "y")
			if got, err := m.Measure(t.Context(), &next, 1); err != nil || got.Outcome != Done {
				t.Errorf("next: %v, %v", got.Outcome, err)
			}
		})
	}
}

// strayAfterError has another program extend the PCR when a command failed.
type strayAfterError struct {
	*softtpm.TPM
	stray func()
}

func (s strayAfterError) Send(cmd []byte) ([]byte, error) {
	rsp, err := s.TPM.Send(cmd)
	if err != nil {
		s.stray()
	}
	return rsp, err
}

func isExtend(cmd []byte) bool { return bytes.Equal(cmd[6:10], []byte{0, 0, 1, 0x82}) }

// blindTPM answers success to an extend and does nothing.
type blindTPM struct{ *softtpm.TPM }

func (b blindTPM) Send(cmd []byte) ([]byte, error) {
	cmd = bytes.Clone(cmd)
	if isExtend(cmd) {
		copy(cmd[10:], []byte{0x40, 0, 0, 7}) // TPM_RH_NULL
	}
	return b.TPM.Send(cmd)
}

func TestMeasureWithoutEffect(t *testing.T) {
	m, tpm := newMeasurer(t, nil)
	m.TPM = blindTPM{tpm}
	rec := record(t, "x", "y")
	if got, err := m.Measure(t.Context(), &rec, 0); !errors.Is(err, ErrNoEffect) || got.Outcome != NotDone {
		t.Errorf("%v, %v", got.Outcome, err)
	}
}

// onExtend tells of every TPM2_PCR_Extend before the TPM has it.
type onExtend struct {
	transport.TPM
	tell func()
}

func (o onExtend) Send(cmd []byte) ([]byte, error) {
	if isExtend(cmd) {
		o.tell()
	}
	return o.TPM.Send(cmd)
}

// TestMeasureCancelled: whoever gives up before the extend has not extended, and
// whoever gives up during it still learns what became of it.
func TestMeasureCancelled(t *testing.T) {
	rec := record(t, "x", "y")
	t.Run("before", func(t *testing.T) {
		m, tpm := newMeasurer(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		got, err := m.Measure(ctx, &rec, 0)
		if !errors.Is(err, context.Canceled) || got.Outcome != NotDone || tpm.Extends() != 0 {
			t.Errorf("%v, %v, %d extends", got.Outcome, err, tpm.Extends())
		}
	})
	t.Run("while the TPM is busy", func(t *testing.T) {
		m, tpm := newMeasurer(t, nil)
		m.Patience = time.Hour
		tpm.Inject(softtpm.Fault{Command: tpm2.TPMCCPCRExtend, RC: tpm2.TPMRCRetry, Times: -1})
		ctx, cancel := context.WithCancel(t.Context())
		m.TPM = onExtend{tpm, cancel}
		got, err := m.Measure(ctx, &rec, 0)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, tpm2.TPMRCRetry) || got.Outcome != NotDone || got.Entry.State != Dropped {
			t.Errorf("%v, %v, %v", got.Outcome, got.Entry.State, err)
		}
	})
	for _, dies := range []bool{false, true} {
		m, tpm := newMeasurer(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		tpm.OnExtend(nil, func(uint32) { cancel() })
		if dies { // with the very error that a cancelled transport returns
			tpm.Inject(softtpm.Fault{Command: tpm2.TPMCCPCRExtend, Err: context.Canceled, Done: true})
		}
		got, err := m.Measure(ctx, &rec, 0)
		if err != nil || got.Outcome != Done || got.After == nil {
			t.Errorf("during the extend (dies %v): %v, %v", dies, got.Outcome, err)
		}
		cancel()
	}
}

// TestJournalIsWrittenFirst looks at the disk from inside the extend.
func TestJournalIsWrittenFirst(t *testing.T) {
	m, tpm := newMeasurer(t, nil)
	rec := record(t, "x", "y")
	looked := false
	tpm.OnExtend(func(uint32) {
		looked = true
		j, err := OpenJournal(filepath.Dir(m.Journal.Path()), &JournalOptions{BootID: bootA, ReadOnly: true})
		if err != nil {
			t.Error(err)
			return
		}
		defer j.Close()
		e := j.Entries()
		if len(e) != 1 || e[0].State != Unsettled || !sameRecord(&e[0].Record, &rec) || e[0].Before == nil {
			t.Errorf("journal at the time of the extend: %+v", e)
		}
	}, nil)
	if _, err := m.Measure(t.Context(), &rec, 0); err != nil || !looked {
		t.Errorf("looked %v, %v", looked, err)
	}
}

// TestMeasureConcurrently has many measure through one Measurer; the journal's
// order is that of the PCR.
func TestMeasureConcurrently(t *testing.T) {
	m, _ := newMeasurer(t, nil)
	var wg sync.WaitGroup
	for i := range 12 {
		rec := record(t, "x", string(rune('a'+i)))
		wg.Add(1)
		go func() {
			defer wg.Done()
			if got, err := m.Measure(t.Context(), &rec, 0); err != nil || got.Outcome != Done {
				t.Errorf("%v, %v", got.Outcome, err)
			}
		}()
	}
	wg.Wait()
	var list []imalog.Record
	for _, e := range m.Journal.Entries() {
		list = append(list, e.Record)
	}
	got, err := m.Values(t.Context())
	if want := replay(t, nil, list...); err != nil || !got.Equal(want) || len(list) != 12 {
		t.Errorf("PCR %x, journal of %d replays to %x, %v", got, len(list), want, err)
	}
}

func TestMeasureRefusals(t *testing.T) {
	good := record(t, "x", "y")
	other := good.Clone()
	other.PCR = 11
	wrong := good.Clone()
	wrong.Digest[0] ^= 1
	violation := good.Clone()
	violation.Digest = make([]byte, 20)
	oldest := good.Clone()
	oldest.Template = "ima"
	m, tpm := newMeasurer(t, nil)
	for name, rec := range map[string]imalog.Record{"another PCR": other, "wrong digest": wrong, "violation": violation, "template ima": oldest} {
		if got, err := m.Measure(t.Context(), &rec, 0); !errors.Is(err, ErrRecord) || got.Outcome != NotDone {
			t.Errorf("%s: %v, %v", name, got.Outcome, err)
		}
	}
	if tpm.Extends() != 0 || len(m.Journal.Entries()) != 0 {
		t.Errorf("%d extends, journal %v", tpm.Extends(), m.Journal.Entries())
	}
	none := &Measurer{TPM: tpm}
	if _, err := none.Measure(t.Context(), &good, 0); !errors.Is(err, ErrNoJournal) {
		t.Errorf("no journal: %v", err)
	}
	all := &Measurer{TPM: tpm, Journal: m.Journal, LeaveOut: []uint16{imalog.AlgSHA1, imalog.AlgSHA256}}
	if _, err := all.Measure(t.Context(), &good, 0); !errors.Is(err, ErrBank) {
		t.Errorf("all banks left out: %v", err)
	}
}

func TestTPMValues(t *testing.T) {
	tpm := softtpm.New(fourBanks())
	for pcr := range uint32(24) {
		for i, alg := range []uint16{imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512} {
			v := bytes.Repeat([]byte{byte(pcr), byte(i)}, imalog.AlgSize(alg)/2)
			if err := tpm.Set(tpm2.TPMAlgID(alg), pcr, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	for pcr := range uint32(24) {
		got, err := TPMValues(t.Context(), tpm, pcr)
		if err != nil || len(got) != 4 {
			t.Fatalf("PCR %d: %d banks, %v", pcr, len(got), err)
		}
		for alg, v := range got {
			if want := tpm.Value(tpm2.TPMAlgID(alg), pcr); !bytes.Equal(v, want) {
				t.Errorf("PCR %d of bank %s: %x, want %x", pcr, bankName(alg), v, want)
			}
		}
	}
	if v, err := TPMValues(t.Context(), tpm, 24); !errors.Is(err, ErrBank) {
		t.Errorf("PCR 24: %x, %v", v, err)
	}
}

// TestValuesOfOneMoment reads a TPM that answers one digest at a time while
// somebody extends in between.
func TestValuesOfOneMoment(t *testing.T) {
	opts := fourBanks()
	opts.MaxDigests = 1
	opts.Unallocated = []softtpm.Bank{{Alg: tpm2.TPMAlgID(imalog.AlgSM3_256), New: sha512.New512_256}}
	tpm := softtpm.New(opts)
	rec := record(t, "stranger", "s")
	reads, strays := 0, 0
	m := &Measurer{TPM: afterRead{tpm, func() {
		if reads++; reads == 2 || reads == 5 {
			kernelExtend(t, tpm, &rec)
			strays++
		}
	}}}
	got, err := m.Values(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for alg, v := range got {
		if want := tpm.Value(tpm2.TPMAlgID(alg), 10); !bytes.Equal(v, want) {
			t.Errorf("bank %s: %x, want %x", bankName(alg), v, want)
		}
	}
	if len(got) != 4 || strays != 2 {
		t.Errorf("%d banks, %d strays", len(got), strays)
	}
	m.TPM = afterRead{tpm, func() { kernelExtend(t, tpm, &rec) }}
	if _, err := m.Values(t.Context()); !errors.Is(err, ErrUnsteady) {
		t.Errorf("a PCR that never rests: %v", err)
	}
}

type afterRead struct {
	*softtpm.TPM
	do func()
}

func (a afterRead) Send(cmd []byte) ([]byte, error) {
	rsp, err := a.TPM.Send(cmd)
	if bytes.Equal(cmd[6:10], []byte{0, 0, 1, 0x7e}) {
		a.do()
	}
	return rsp, err
}

// TestValuesOfOddTPM reads TPMs that answer what they were not asked, too little
// or nothing: an error, and no endless loop.
func TestValuesOfOddTPM(t *testing.T) {
	const one = "00000001" + "000403000400" // a selection: PCR 10 of sha1
	digest := "0014" + strings.Repeat("00", 20)
	for name, body := range map[string]string{
		"nothing":         "00000000" + "00000000" + "00000000",
		"no digest":       "00000000" + one + "00000000",
		"a bank again":    "00000000" + one + "00000001" + digest,
		"too short":       "00000000" + one + "00000001" + "000400000000",
		"an empty digest": "00000000" + one + "00000001" + "0000",
		"another bank":    "00000000" + "00000001" + "000d03000400" + "00000001" + "0040" + strings.Repeat("00", 64),
	} {
		raw, err := hex.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		answer := binary.BigEndian.AppendUint32([]byte{0x80, 1}, uint32(10+len(raw)))
		answer = append(append(answer, 0, 0, 0, 0), raw...)
		m := &Measurer{TPM: oddTPM{softtpm.New(nil), answer}}
		if v, err := m.Values(t.Context()); !errors.Is(err, ErrBank) {
			t.Errorf("%s: %x, %v", name, v, err)
		}
	}
	none := &Measurer{TPM: softtpm.New(&softtpm.Options{Banks: []softtpm.Bank{}, Unallocated: []softtpm.Bank{softtpm.SHA1()}})}
	if v, err := none.Values(t.Context()); !errors.Is(err, ErrBank) {
		t.Errorf("no bank allocated: %x, %v", v, err)
	}
}

// oddTPM gives one answer to every reading of a PCR.
type oddTPM struct {
	*softtpm.TPM
	answer []byte
}

func (o oddTPM) Send(cmd []byte) ([]byte, error) {
	if bytes.Equal(cmd[6:10], []byte{0, 0, 1, 0x7e}) {
		return o.answer, nil
	}
	return o.TPM.Send(cmd)
}

// TestFullDiskExtendsNothing: the journal cannot be written, so the TPM is left
// alone; with room again it goes on.
func TestFullDiskExtendsNothing(t *testing.T) {
	for _, room := range []int{0, 1, 40, 400} {
		m, tpm := newMeasurer(t, nil)
		first, rec := record(t, "first", "1"), record(t, "second", "2")
		if _, err := m.Measure(t.Context(), &first, 0); err != nil {
			t.Fatal(err)
		}
		disk := &fullDisk{journalFile: m.Journal.file, room: room}
		m.Journal.file = disk
		got, err := m.Measure(t.Context(), &rec, 0)
		var me *MeasureError
		if !errors.Is(err, errNoSpace) || !errors.As(err, &me) || me.Step != "journal" || got.Outcome != NotDone {
			t.Errorf("room %d: %v, %v", room, got.Outcome, err)
		}
		if tpm.Extends() != 1 {
			t.Errorf("room %d: extended", room)
		}
		again := openJournal(t, filepath.Dir(m.Journal.Path()))
		if e := again.Entries(); len(e) != 1 || !sameRecord(&e[0].Record, &first) {
			t.Errorf("room %d: journal reads %+v", room, e)
		}
		m.Journal.file = disk.journalFile
		if got, err := m.Measure(t.Context(), &rec, 0); err != nil || got.Outcome != Done || got.Entry.Seq != 2 {
			t.Errorf("room %d: with room again: %v, entry %d, %v", room, got.Outcome, got.Entry.Seq, err)
		}
		if err := again.Reload(); err != nil || len(again.Entries()) != 2 || again.Entries()[1].State != Extended {
			t.Errorf("room %d: afterwards journal reads %+v, %v", room, again.Entries(), err)
		}
	}
}

var errNoSpace = errors.New("no space left on device")

type fullDisk struct {
	journalFile
	room int
}

func (f *fullDisk) Write(b []byte) (int, error) {
	n := min(f.room, len(b))
	f.journalFile.Write(b[:n])
	f.room -= n
	if n < len(b) {
		return n, errNoSpace
	}
	return n, nil
}

// TestSyncFails: the line is there but may not last, so nothing is extended.
func TestSyncFails(t *testing.T) {
	m, tpm := newMeasurer(t, nil)
	m.Journal.file = &badSync{m.Journal.file}
	rec := record(t, "x", "y")
	if got, err := m.Measure(t.Context(), &rec, 0); !errors.Is(err, os.ErrDeadlineExceeded) || got.Outcome != NotDone || tpm.Extends() != 0 {
		t.Errorf("%v, %v, %d extends", got.Outcome, err, tpm.Extends())
	}
	if e := m.Journal.Entries(); len(e) != 1 || e[0].State != Dropped {
		t.Errorf("journal %+v", e)
	}
}

type badSync struct{ journalFile }

func (badSync) Sync() error { return os.ErrDeadlineExceeded }
