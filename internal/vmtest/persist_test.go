//go:build linux

package vmtest

import (
	"context"
	"os"
	"testing"

	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/kexecseg"
)

// persist loads in one process, seals in another when the kernel's files are gone,
// and jumps from a third; process 1 only starts them.
var persist = Scenario{
	Name: "persist",
	Boots: []func(*Guest){
		func(g *Guest) {
			putList(g, "list at first")
			g.Run("load")
			g.MeasureFiles(5, "between")
			g.Check(os.RemoveAll("/boot"), "remove kernels")
			g.Check(os.Remove("/init"), "remove init")
			putList(g, "list loaded")
			g.Capture("loaded")
			g.CloseTPM()
			g.Run("seal")
			putList(g, "sent0")
			g.Run("jump")
			g.Fatalf("the process that jumps ended")
		},
		func(g *Guest) {
			arriveAs(g, handover.Complete)
			g.MeasureFiles(5, "after")
			putList(g, "list arrived")
			g.Capture("end")
		},
	},
	Processes: map[string]func(*Guest){
		"load": func(g *Guest) {
			h := load(g, &handover.Options{TPM: g.TPM(), Persist: true, EventsAtLoad: true})
			g.Check(h.Close(), "close")
		},
		"seal": func(g *Guest) {
			h, err := handover.Resume(context.Background(), nil, &handover.Options{TPM: g.TPM()})
			g.Check(err, "resume")
			g.Check(h.Seal(context.Background()), "seal")
			g.Check(h.Close(), "close")
		},
		"jump": func(g *Guest) { g.Check(kexecseg.Reboot(), "kexec") },
	},
}

func TestPersist(t *testing.T) {
	res := Run(t, Config{Scenario: "persist", Kernels: []string{"6.12", "7.x"}})
	// With kexec_load measured at Load the kernel's own list does not replay until the
	// jump; the one that ReadList puts together does.
	JudgeLost(t, res.Capture("loaded"))
	c := res.Capture("end")
	Judge(t, c)
	carried(t, res, c, "sent0")
	list := names(t, c.List())
	inOrder(t, list, append([]string{"boot_aggregate", "kexec_load"}, append(files(5, "between"), "kexec_execute", "boot_aggregate", "/after-4")...)...)
}
