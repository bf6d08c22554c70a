//go:build linux

package vmtest

import (
	"context"
	"testing"

	"github.com/imakexec/imakexec/imalog"
)

// Template "ima", the oldest, cannot be restored in the form in which it is
// listed, not even by a kernel that carries its list itself; in the form in which
// it is handed over here it is, and replays. evmctl does not read such lists.
func TestTemplateIMA(t *testing.T) {
	for _, kernels := range [][]string{{"6.12", "7.x"}, {"7.x", "6.1"}} {
		t.Run(kernels[0]+" to "+kernels[1], func(t *testing.T) {
			res := Run(t, Config{Scenario: "pair", Kernels: kernels, Cmdline: "ima_template=ima"})
			c := res.Capture("end")
			values, err := c.Values("sha1", "sha256")
			if err != nil {
				t.Fatal(err)
			}
			r, err := imalog.Verify(context.Background(), imalog.Records(c.List(), nil), values, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Matched() || len(r.Boots) != 2 {
				t.Errorf("the list does not replay over two boots: %+v", r.Banks)
			}
			old := 0
			for rec, err := range imalog.Records(c.List(), nil) {
				if err != nil {
					t.Fatal(err)
				}
				if rec.Template == "ima" {
					old++
				}
			}
			if old < 10 {
				t.Errorf("%d records of template ima, want those of both boots", old)
			}
			inOrder(t, names(t, c.List()), append(files(5, "before0"), files(5, "between0")...)...)
		})
	}
}
