package imalog

import "testing"

func TestNothingAllocatedForARecord(t *testing.T) {
	for _, c := range captures(t) {
		b, opts := c.binary(t, "sha1")
		list := records(t, b, opts)
		want := c.pcr(t, 10)
		replay := NewReplayer(&ReplayOptions{Banks: []uint16{AlgSHA1, AlgSHA256, AlgSHA384, AlgSHA512}})
		buf := make([]byte, 0, 64<<10)
		for i := range list {
			if n := testing.AllocsPerRun(1, func() {
				replay.Add(&list[i])
				replay.Match(want)
				list[i].AppendBinary(buf)
				list[i].AppendText(buf)
				list[i].AppendDigest(buf, AlgSHA256)
				list[i].BootAggregate()
				for f, err := range list[i].Fields() {
					if err != nil {
						t.Fatal(err)
					}
					switch f.Kind() {
					case KindDigest:
						_, err = f.FileDigest()
					case KindText:
						_, err = f.Text()
					case KindUint:
						_, err = f.Uint()
					}
					if err != nil {
						t.Fatal(list[i].Template, err)
					}
				}
				if list[i].Template != templateIMA {
					list[i].Restorable()
				}
			}); n != 0 {
				t.Errorf("%s: %v allocations for record %d (%s)", c.name(), n, i, list[i].Template)
			}
		}
		// What remains is the list's own: the sequence and its parser.
		if n := testing.AllocsPerRun(1, func() {
			for range Records(b, opts) {
			}
		}); n > 4 {
			t.Errorf("%s: %v allocations to walk %d records", c.name(), n, len(list))
		}
	}
}
