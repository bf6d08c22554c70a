package imalog_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/listgen"
	"github.com/imakexec/imakexec/internal/testenv"
)

// benchRecords is the length of the list that everything is measured on.
const benchRecords = 1_000_000

// benchList is that list.
var benchList = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	b.Grow(140 << 20)
	if err := listgen.Write(&b, benchRecords, listgen.Seed); err != nil {
		panic(err)
	}
	return b.Bytes()
})

// versus measures what against its floor, one after the other in each round, so
// that whatever else the machine does befalls both. It reports the best rounds:
// what takes so many times as long as the floor.
func versus(b *testing.B, floor, what func()) (ratio float64, took time.Duration) {
	b.Helper()
	best := [2]time.Duration{math.MaxInt64, math.MaxInt64}
	rounds := 0
	round := func() {
		for i, f := range []func(){floor, what} {
			start := time.Now()
			f()
			best[i] = min(best[i], time.Since(start))
		}
		rounds++
	}
	runtime.GC()
	for b.Loop() {
		round()
	}
	for rounds < 5 { // slow ones, too
		round()
	}
	ratio = float64(best[1]) / float64(best[0])
	b.ReportMetric(0, "ns/op") // of both together
	b.ReportMetric(float64(best[0].Nanoseconds())/benchRecords, "floor-ns/record")
	b.ReportMetric(float64(best[1].Nanoseconds())/benchRecords, "ns/record")
	b.ReportMetric(ratio, "x-floor")
	return ratio, best[1]
}

// hashes are the least that a replay can do: each record's data hashed and each
// bank extended, in a bare loop over what lies ready in memory.
func hashes(banks int) (sha1PCR [20]byte, sha256PCR [32]byte) {
	var in1 [2 * 20]byte
	var in256 [2 * 32]byte
	var in384 [2 * 48]byte
	var in512 [2 * 64]byte
	list := benchList()
	for _, r := range benchData() {
		d := list[r.start:r.end]
		if r.violation {
			for i := range in1[20:] {
				in1[20+i] = 0xff
			}
			for i := range in256[32:] {
				in256[32+i] = 0xff
			}
		} else {
			s1 := sha1.Sum(d)
			copy(in1[20:], s1[:])
			s256 := sha256.Sum256(d)
			copy(in256[32:], s256[:])
		}
		s1 := sha1.Sum(in1[:])
		copy(in1[:], s1[:])
		s256 := sha256.Sum256(in256[:])
		copy(in256[:], s256[:])
		if banks == 2 {
			continue
		}
		s384 := sha512.Sum384(d)
		copy(in384[48:], s384[:])
		s384 = sha512.Sum384(in384[:])
		copy(in384[:], s384[:])
		s512 := sha512.Sum512(d)
		copy(in512[64:], s512[:])
		s512 = sha512.Sum512(in512[:])
		copy(in512[:], s512[:])
	}
	return [20]byte(in1[:]), [32]byte(in256[:])
}

// dataRange is where a record's template data lies in the list.
type dataRange struct {
	start, end uint32
	violation  bool
}

var benchData = sync.OnceValue(func() []dataRange {
	ranges := make([]dataRange, 0, benchRecords)
	off := 0
	for rec, err := range imalog.Records(benchList(), nil) {
		if err != nil {
			panic(err)
		}
		off += rec.BinarySize()
		ranges = append(ranges, dataRange{uint32(off - len(rec.Data)), uint32(off), rec.Violation()})
	}
	return ranges
})

var benchWant = sync.OnceValue(func() imalog.Values {
	a, b := hashes(2)
	return imalog.Values{imalog.AlgSHA1: a[:], imalog.AlgSHA256: b[:]}
})

// Every template digest checked and every bank replayed, against the hashes
// alone in one goroutine.
func BenchmarkVerify(b *testing.B) {
	list := benchList()
	want := benchWant()
	four := imalog.NewReplayer(&imalog.ReplayOptions{Banks: []uint16{imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512}})
	if err := four.AddAll(context.Background(), imalog.Records(list, nil)); err != nil {
		b.Fatal(err)
	}
	for _, test := range []struct {
		banks, workers int
		want           imalog.Values
	}{{2, 1, want}, {2, 2, want}, {4, 1, four.Values()}, {4, 2, four.Values()}} {
		b.Run(fmt.Sprintf("banks=%d/goroutines=%d", test.banks, test.workers), func(b *testing.B) {
			versus(b, func() { hashes(test.banks) }, func() {
				res, err := imalog.Verify(context.Background(), imalog.Records(list, nil), test.want, &imalog.ReplayOptions{Workers: test.workers})
				if err != nil || !res.Matched() || len(res.Findings) > 0 {
					b.Fatal(res, err)
				}
			})
		})
	}
}

// Each record added by itself.
func BenchmarkAdd(b *testing.B) {
	list, want := benchList(), benchWant()
	versus(b, func() { hashes(2) }, func() {
		r := imalog.NewReplayer(nil)
		for rec, err := range imalog.Records(list, nil) {
			if err == nil {
				err = r.Add(&rec)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		if !r.Match(want) {
			b.Fatal("no match")
		}
	})
}

func memcpy(dst, list []byte) func() {
	copy(dst, list) // its pages are there now
	return func() { copy(dst, list) }
}

// Every record read and every field of it decoded, against copying the bytes.
func BenchmarkWalk(b *testing.B) {
	list := benchList()
	dst := make([]byte, len(list)+imalog.HeaderSize)
	b.Run("records", func(b *testing.B) {
		rate(b, memcpy(dst, list), func() {
			n := 0
			for rec, err := range imalog.Records(list, nil) {
				if err != nil {
					b.Fatal(err)
				}
				n += len(rec.Data)
			}
		})
	})
	b.Run("fields", func(b *testing.B) {
		rate(b, memcpy(dst, list), func() {
			n := 0
			for rec, err := range imalog.Records(list, nil) {
				if err != nil {
					b.Fatal(err)
				}
				for f, err := range rec.Fields() {
					if err != nil {
						b.Fatal(err)
					}
					switch f.Kind() {
					case imalog.KindDigest:
						d, err := f.FileDigest()
						if err != nil {
							b.Fatal(err)
						}
						n += len(d.Sum)
					case imalog.KindText:
						s, err := f.Text()
						if err != nil {
							b.Fatal(err)
						}
						n += len(s)
					case imalog.KindSignature:
						s, err := f.Signature()
						if err != nil {
							b.Fatal(err)
						}
						n += len(s.Sig)
					}
				}
			}
			if n == 0 {
				b.Fatal("nothing decoded")
			}
		})
	})
}

func BenchmarkDump(b *testing.B) {
	list := benchList()
	dst := make([]byte, len(list)+imalog.HeaderSize)
	for name, dump := range map[string]func() (int, error){
		"Dump":                 func() (int, error) { return imalog.Dump(dst, imalog.Records(list, nil)) },
		"DumpBinary":           func() (int, error) { return imalog.DumpBinary(dst, list, benchRecords) },
		"DumpBinary, counting": func() (int, error) { return imalog.DumpBinary(dst, list, -1) },
	} {
		b.Run(name, func(b *testing.B) {
			rate(b, memcpy(dst, list), func() {
				if n, err := dump(); n != len(dst) || err != nil {
					b.Fatal(n, err)
				}
			})
		})
	}
}

// rate is versus for what is limited by memory.
func rate(b *testing.B, floor, what func()) {
	b.Helper()
	ratio, best := versus(b, floor, what)
	b.ReportMetric(1/ratio, "of-memcpy")
	b.ReportMetric(float64(len(benchList()))/1e9/best.Seconds(), "GB/s")
}

func BenchmarkAppend(b *testing.B) {
	list := benchList()
	dst := make([]byte, 0, 4096)
	for name, add := range map[string]func(*imalog.Record) ([]byte, error){
		"binary": func(r *imalog.Record) ([]byte, error) { return r.AppendBinary(dst) },
		"text":   func(r *imalog.Record) ([]byte, error) { return r.AppendText(dst) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(list)))
			for b.Loop() {
				var rec imalog.Record
				for r, err := range imalog.Records(list, nil) {
					rec = r
					if err == nil {
						_, err = add(&rec)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// The same file, the same answer: against evmctl, which can use only one
// processor, and of whose work we use one and two. Records with signatures are
// left out, for which evmctl would look at the files.
func BenchmarkEvmctl(b *testing.B) {
	evmctl, err := exec.LookPath("evmctl")
	if err != nil {
		testenv.Skip(b, "evmctl is not there (Debian: ima-evm-utils)")
	}
	var list []byte
	r := imalog.NewReplayer(nil)
	for rec, err := range imalog.Records(benchList(), nil) {
		if f, _ := rec.Field("sig"); len(f.Data) > 0 {
			continue
		}
		if err == nil {
			err = r.Add(&rec)
		}
		if err == nil {
			list, err = rec.AppendBinary(list)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	want := r.Values()

	dir := b.TempDir()
	file := filepath.Join(dir, "list")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		b.Fatal(err)
	}
	args := []string{"ima_measurement", "--ignore-violations"}
	for alg, value := range want {
		var text bytes.Buffer
		for i := range 24 {
			v := make([]byte, len(value))
			if i == imalog.DefaultPCR {
				v = value
			}
			fmt.Fprintf(&text, "PCR-%02d: % X \n", i, v)
		}
		name := filepath.Join(dir, imalog.AlgName(alg))
		if err := os.WriteFile(name, text.Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
		args = append(args, "--pcrs", imalog.AlgName(alg)+","+name)
	}
	args = append(args, file)
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("goroutines=%d", workers), func(b *testing.B) {
			ratio, _ := versus(b, func() {
				if out, err := exec.Command(evmctl, args...).CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
			}, func() {
				f, err := os.Open(file)
				if err != nil {
					b.Fatal(err)
				}
				defer f.Close()
				res, err := imalog.Verify(context.Background(), imalog.Stream(f, -1, nil), want, &imalog.ReplayOptions{Workers: workers})
				if err != nil || !res.Matched() {
					b.Fatal(res, err)
				}
			})
			b.ReportMetric(1/ratio, "x-faster")
		})
	}
}
