//go:build linux

package vmtest

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/handover"
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

// The kernel's own kexec_execute is foreseen behind records whose bytes it does not count
// as it lists them. evmctl knows no such templates.
func TestTemplatesOfKernelsThatSend(t *testing.T) {
	for _, k := range ExtraKernels() {
		if !strings.HasPrefix(k, "7.") {
			continue // which add none
		}
		for _, template := range []string{"ima_template_fmt=d-ng|n-ng|iuid", "ima_template_fmt=d-ng|n-ng", "ima_template=ima"} {
			t.Run(k+" "+template, func(t *testing.T) {
				res := Run(t, Config{Scenario: "pair", Kernels: []string{k, "7.x"}, Cmdline: template})
				var r handover.Report
				if err := json.Unmarshal(res.Files["report1"], &r); err != nil || r.Verdict != handover.Complete || r.KexecExecute < 0 {
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
	}
}

// long has a template that is too long for any kernel to restore: Load foretells what
// Arrive finds.
var long = Scenario{Name: "long", Boots: []func(*Guest){
	func(g *Guest) {
		h := load(g, &handover.Options{TPM: g.TPM()})
		s := h.Status()
		if !s.Proof.Proved || s.Refused == 0 || s.Refused != s.Records {
			g.Errorf("%+v; want all records refused", s)
		}
		execute(g, h)
	},
	func(g *Guest) {
		if r := arriveAs(g, handover.Lost); r.Boots != 1 {
			g.Errorf("%d boots in the list", r.Boots)
		}
		g.Capture("end")
	},
}}

func TestTemplateTooLong(t *testing.T) {
	res := Run(t, Config{Scenario: "long", Kernels: []string{"6.12", "7.x"},
		Cmdline: "ima_template_fmt=d-ng|n-ng|sig|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode"})
	JudgeLost(t, res.Capture("end"))
}
