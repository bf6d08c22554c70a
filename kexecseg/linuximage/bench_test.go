package linuximage

import (
	"bytes"
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/imakexec/imakexec/kexecseg"
)

// BenchmarkPlan plans a kernel of 14 MiB with an initrd of 100 MiB. The floor, in
// turn with it, is one copy of the same bytes into new slices; of-floor is our speed
// by its, each in its best round.
func BenchmarkPlan(b *testing.B) {
	kernel, initrd := testKernel(14<<20, nil), make([]byte, 100<<20)
	root := testRoot(b, biosMachine)
	memory, err := kexecseg.ReadMemoryMap(root)
	if err != nil {
		b.Fatal(err)
	}
	l := &Linux{Kernel: bytes.NewReader(kernel), Initrd: bytes.NewReader(initrd)}
	req := &kexecseg.Request{Memory: memory, IMASize: 1 << 20, Root: root}
	plan := func() time.Duration {
		runtime.GC() // of the other's copy, whose memory is there for this one
		start := time.Now()
		if _, err := l.Plan(context.Background(), req); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	bare := func() time.Duration {
		runtime.GC()
		start := time.Now()
		for _, src := range [][]byte{kernel, initrd} {
			copy(make([]byte, len(src)), src)
		}
		return time.Since(start)
	}
	took, floor := plan(), bare()
	round := func() { took, floor = min(took, plan()), min(floor, bare()) }
	for range 10 { // the first pages of a heap take much longer
		round()
	}
	for b.Loop() {
		round()
	}
	b.ReportMetric(0, "ns/op") // of both together
	b.ReportMetric(float64(len(kernel)+len(initrd))/1e6/took.Seconds(), "MB/s")
	b.ReportMetric(floor.Seconds()/took.Seconds(), "of-floor")
	allocated := testing.AllocsPerRun(1, func() { l.Plan(context.Background(), req) })
	b.ReportMetric(allocated, "allocs/plan")
}
