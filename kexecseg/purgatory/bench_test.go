package purgatory

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"
)

// BenchmarkSHA256 runs the routines over 64 MiB, eight times in one process, so that
// starting it weighs little. of-floor is the speed by that of crypto/sha256.
func BenchmarkSHA256(b *testing.B) {
	data := make([]byte, 64<<20)
	const times = 8
	for _, r := range routines(b) {
		b.Run(strings.ReplaceAll(r.name, " ", "-"), func(b *testing.B) {
			b.SetBytes(int64(len(data)) * times)
			var floor time.Duration
			for b.Loop() {
				r.run(b, data, times)
				b.StopTimer()
				start := time.Now()
				for range times {
					sha256.Sum256(data)
				}
				floor += time.Since(start)
				b.StartTimer()
			}
			b.ReportMetric(floor.Seconds()/b.Elapsed().Seconds(), "of-floor")
		})
	}
}
