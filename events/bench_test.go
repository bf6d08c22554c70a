package events

import (
	"crypto/sha1"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/softtpm"
)

// floor runs something bare as often as the benchmark ran, and reports how many
// times as long the benchmark took.
func floor(b *testing.B, bare func()) {
	b.StopTimer()
	took := b.Elapsed()
	start := time.Now()
	for range b.N {
		bare()
	}
	b.ReportMetric(float64(took)/float64(time.Since(start)), "x-floor")
}

// BenchmarkSplice places one record among 25,000; the floor is the same hashes
// over the same list in a bare loop.
func BenchmarkSplice(b *testing.B) {
	f := files(b, 25000, "f")
	load := record(b, KexecLoad, "l")
	for _, bb := range []struct {
		name string
		s    *scene
	}{
		{"in-place", newScene(b).kernels(f[:20000]...).own(load, Extended, nil, nil).kernels(f[20000:]...)},
		{"seven-slipped", newScene(b).kernels(f[:20000]...).own(load, Extended, f[20000:20007], nil).kernels(f[20007:]...)},
		{"never-extended", newScene(b).kernels(f[:20000]...).lost(load, Unsettled).kernels(f[20000:]...)},
		{"tail-of-100", newScene(b).kernels(f[:50]...).own(load, Extended, nil, nil).kernels(f[50:100]...)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			want := bb.s.state.Values()
			for b.Loop() {
				if _, err := bb.s.splice(want, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(bb.s.truth))*float64(b.N)/b.Elapsed().Seconds(), "records/s")
			floor(b, func() { bareReplay(bb.s.truth) })
		})
	}
}

// bareReplay hashes a list into two banks and does nothing else.
func bareReplay(list []imalog.Record) (s1 [20]byte, s2 [32]byte) {
	var b1 [40]byte
	var b2 [64]byte
	for i := range list {
		d1, d2 := sha1.Sum(list[i].Data), sha256.Sum256(list[i].Data)
		copy(b1[:], s1[:])
		copy(b1[20:], d1[:])
		copy(b2[:], s2[:])
		copy(b2[32:], d2[:])
		s1, s2 = sha1.Sum(b1[:]), sha256.Sum256(b2[:])
	}
	return s1, s2
}

// BenchmarkMeasure measures into a TPM that costs next to nothing; the floor is
// the journal's two lines written and synced, and the TPM's three commands.
func BenchmarkMeasure(b *testing.B) {
	dir := b.TempDir()
	m := &Measurer{TPM: softtpm.New(nil), Journal: openJournal(b, filepath.Join(dir, "state"))}
	rec := record(b, KexecLoad, "kexec_segment_size=4096;ima_binary_runtime_size=1355;ima_runtime_measurements_count=13;")
	for b.Loop() {
		if _, err := m.Measure(b.Context(), &rec, 13); err != nil {
			b.Fatal(err)
		}
	}
	bare, err := os.OpenFile(filepath.Join(dir, "bare"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	entry, outcome := make([]byte, 900), make([]byte, 300)
	tpm := softtpm.New(nil)
	sel := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA1, PCRSelect: tpm2.PCClientCompatible.PCRs(10)},
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(10)},
	}}
	floor(b, func() {
		_, err1 := tpm2.PCRRead{PCRSelectionIn: sel}.Execute(tpm)
		_, err2 := bare.Write(entry)
		err3 := bare.Sync()
		kernelExtend(b, tpm, &rec)
		_, err4 := tpm2.PCRRead{PCRSelectionIn: sel}.Execute(tpm)
		_, err5 := bare.Write(outcome)
		for _, err := range []error{err1, err2, err3, err4, err5, bare.Sync()} {
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAudit judges 25,000 records in 250 boots; the floor walks them, with a
// proof it replays them.
func BenchmarkAudit(b *testing.B) {
	a := &afternoon{t: b}
	for range 250 {
		a.boot().files(97)
		f := Figures{4096, 24, uint64(len(a.list)), ""}
		a.event(KexecLoad, f).event(KexecExecute, f)
	}
	var raw []byte
	for i := range a.list {
		raw, _ = a.list[i].AppendBinary(raw)
	}
	want := replay(b, nil, a.list...)
	for _, bb := range []struct {
		name string
		want imalog.Values
		bare func()
	}{
		{"list", nil, func() {
			names := 0
			for rec, err := range imalog.Records(raw, nil) {
				if err != nil {
					b.Fatal(err)
				}
				if rec.BootAggregate() {
					names++
				}
				names += len(rec.Name())
			}
			if names == 0 {
				b.Fatal("no names")
			}
		}},
		{"proof", want, func() { bareReplay(a.list) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			for b.Loop() {
				r, err := Audit(b.Context(), imalog.Records(raw, nil), &AuditOptions{Want: bb.want})
				if err != nil || len(r.Boundaries) != 250 {
					b.Fatal(r, err)
				}
			}
			b.ReportMetric(float64(len(a.list))*float64(b.N)/b.Elapsed().Seconds(), "records/s")
			floor(b, bb.bare)
		})
	}
}
