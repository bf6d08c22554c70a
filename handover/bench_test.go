package handover

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/imakexec/imakexec/handover/handovertest"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/kexecseg"
)

// noCalls is a machine whose system calls cost nothing: what is left is the
// handover's own work.
type noCalls struct{ *handovertest.Machine }

func (noCalls) Load(*kexecseg.Image) error { return nil }
func (noCalls) Kexec() error               { return nil }

// BenchmarkExecute measures a whole Execute, events included, with 100 records
// that are new since the Load. "x25000/2500" is the time with a list of 25,000 over
// that with one of 2,500: near 1 when the part that was read costs nothing again.
// "xfloor" is the time over that of hashing the new records once for each bank and
// copying them.
func BenchmarkExecute(b *testing.B) {
	const fresh = 100
	var short time.Duration
	for _, size := range []int{2500, 25000} {
		b.Run(fmt.Sprintf("list=%d", size), func(b *testing.B) {
			ctx := context.Background()
			m, err := handovertest.New(nil)
			if err != nil {
				b.Fatal(err)
			}
			files := 0
			measure := func(n int) {
				for range n {
					files++
					if err := m.MeasureFile(fmt.Sprintf("/usr/lib/x86_64-linux-gnu/libfile-%d.so", files), []byte{1}); err != nil {
						b.Fatal(err)
					}
				}
			}
			measure(size)
			h, err := Load(ctx, &handovertest.Target{}, &Options{
				TPM: m.TPM(), System: noCalls{m}, StateDir: filepath.Join(b.TempDir(), "state"),
				Extra: 256 << 20, // growing is not what is measured
			})
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close()
			var total time.Duration
			var floor time.Duration
			n := 0
			for b.Loop() {
				b.StopTimer()
				measure(fresh)
				h.sealed, h.executed, h.state.LoadMeasured = false, false, false
				before := len(h.ledger.List().Binary)
				b.StartTimer()
				start := time.Now()
				if err := h.Execute(ctx); err != nil {
					b.Fatal(err)
				}
				total += time.Since(start)
				b.StopTimer()
				floor += hashFloor(h.ledger.List().Binary[before:])
				n++
				b.StartTimer()
			}
			each := total / time.Duration(n)
			if size == 2500 {
				short = each
			} else if short > 0 {
				b.ReportMetric(float64(each)/float64(short), "x25000/2500")
			}
			b.ReportMetric(float64(total)/float64(floor), "xfloor")
		})
	}
}

// hashFloor is the work that no handover can do without.
func hashFloor(tail []byte) time.Duration {
	var records [][]byte
	for rec := range imalog.Records(tail, nil) {
		records = append(records, rec.Data)
	}
	dst := make([]byte, len(tail))
	start := time.Now()
	var one [sha1.Size]byte
	var two [sha256.Size]byte
	for _, data := range records {
		d := sha1.Sum(data)
		one = sha1.Sum(append(one[:], d[:]...))
		e := sha256.Sum256(data)
		two = sha256.Sum256(append(two[:], e[:]...))
	}
	copy(dst, tail)
	return time.Since(start)
}
