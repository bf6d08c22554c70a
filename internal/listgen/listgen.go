// Package listgen makes measurement lists of any length for benchmarks, the same
// bytes for the same seed on every machine.
package listgen

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"strconv"

	"github.com/imakexec/imakexec/imalog"
)

// Seed is the one that the project's figures are measured with.
const Seed = 1

// boot is the number of records after which a list has another boot_aggregate.
const boot = 250_000

// Write writes a list of n records in binary form, about 135 bytes each: the mix
// of a machine that measures files and appraises some, with a violation here and
// there.
func Write(w io.Writer, n int, seed uint64) error {
	out := bufio.NewWriterSize(w, 1<<20)
	g := generator{rand: rand.New(rand.NewPCG(seed, 0))}
	for i := range n {
		rec, err := g.record(i)
		if err != nil {
			return err
		}
		if g.buf, err = rec.AppendBinary(g.buf[:0]); err != nil {
			return err
		}
		if _, err := out.Write(g.buf); err != nil {
			return err
		}
	}
	return out.Flush()
}

type generator struct {
	rand *rand.Rand
	data []byte
	name []byte
	sum  []byte
	buf  []byte
}

var dirs = [...]string{
	"/usr/bin/", "/usr/lib/x86_64-linux-gnu/", "/usr/lib/systemd/", "/usr/share/",
	"/usr/lib/python3/dist-packages/", "/etc/", "/opt/app/bin/", "/var/lib/",
}

func (g *generator) record(i int) (imalog.Record, error) {
	rec := imalog.Record{PCR: imalog.DefaultPCR, Template: "ima-ng"}
	g.name = g.name[:0]
	switch {
	case i%boot == 0:
		g.name = append(g.name, "boot_aggregate"...)
	default:
		g.name = append(g.name, dirs[g.rand.IntN(len(dirs))]...)
		for range 4 + g.rand.IntN(20) {
			g.name = append(g.name, 'a'+byte(g.rand.IntN(26)))
		}
		g.name = append(g.name, '-')
		g.name = strconv.AppendInt(g.name, int64(i), 10)
	}
	file := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, g.rand.Uint64()))
	violation := i%10_007 == 10_006

	g.data = appendField(g.data[:0], append([]byte("sha256:\x00"), file[:]...))
	if violation {
		clear(g.data[len(g.data)-len(file):])
	}
	g.data = appendField(g.data, append(g.name, 0))
	switch {
	case i%16 == 5: // appraised, with a signature of the size that EC keys give
		rec.Template = "ima-sig"
		sig := make([]byte, 9+70)
		copy(sig, "\x03\x02\x04")
		binary.BigEndian.PutUint64(sig[3:], g.rand.Uint64())
		binary.BigEndian.PutUint16(sig[7:], 70)
		for j := range sig[9:] {
			sig[9+j] = byte(g.rand.Uint32())
		}
		g.data = appendField(g.data, sig)
	case i%16 == 9:
		rec.Template = "ima-sig"
		g.data = appendField(g.data, nil)
	}
	rec.Data = g.data
	if violation {
		rec.Digest = make([]byte, 20)
		return rec, nil
	}
	var err error
	g.sum, err = rec.AppendDigest(g.sum[:0], imalog.AlgSHA1)
	rec.Digest = g.sum
	return rec, err
}

func appendField(b, field []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(field)))
	return append(b, field...)
}
