package linuximage

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/imakexec/imakexec/kexecseg"
)

// BenchmarkPlan plans a kernel of 14 MiB with an initrd of 100 MiB. The floor, in
// turn with it, is one copy of the same bytes into fresh memory; of-floor is our
// speed by its.
func BenchmarkPlan(b *testing.B) {
	kernel, initrd := testKernel(14<<20, nil), make([]byte, 100<<20)
	root := testRoot(b, biosMachine)
	memory, err := kexecseg.ReadMemoryMap(root)
	if err != nil {
		b.Fatal(err)
	}
	l := &Linux{Kernel: bytes.NewReader(kernel), Initrd: bytes.NewReader(initrd)}
	req := &kexecseg.Request{Memory: memory, IMASize: 1 << 20, Root: root}
	b.SetBytes(int64(len(kernel) + len(initrd)))
	var floor time.Duration
	for b.Loop() {
		if _, err := l.Plan(context.Background(), req); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		start := time.Now()
		for _, src := range [][]byte{kernel, initrd} {
			copy(make([]byte, len(src)), src)
		}
		floor += time.Since(start)
		b.StartTimer()
	}
	b.ReportMetric(floor.Seconds()/b.Elapsed().Seconds(), "of-floor")
	allocated := testing.AllocsPerRun(1, func() { l.Plan(context.Background(), req) })
	b.ReportMetric(allocated, "allocs/plan")
}
