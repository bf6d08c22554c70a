package listgen

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/imakexec/imakexec/imalog"
)

func TestSameSeedSameList(t *testing.T) {
	var b bytes.Buffer
	const n = 20_000
	if err := Write(&b, n, Seed); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	const want = "ac8f4f5af6c20c9fe741e3c672acf6ef4e2c176576b2511fbf81a32ff1a2665f"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("SHA-256 %s, want %s", got, want)
	}
	if size := b.Len() / n; size < 125 || size > 145 {
		t.Errorf("%d bytes a record", size)
	}
	count, violations := 0, 0
	for rec, err := range imalog.Records(b.Bytes(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		count++
		if rec.Violation() {
			violations++
			continue
		}
		sum, err := rec.AppendDigest(nil, imalog.AlgSHA1)
		if err != nil || !bytes.Equal(sum, rec.Digest) {
			t.Fatalf("record %d: %v", count, err)
		}
	}
	if count != n || violations != 1 {
		t.Errorf("%d records, %d violations", count, violations)
	}
}
