//go:build linux

package vmtest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/kexecseg"
	"github.com/imakexec/imakexec/kexecseg/linuximage"
)

// plan has an image planned with a buffer of so many bytes.
func plan(g *Guest, l *linuximage.Linux, imaSize uint64) *kexecseg.Image {
	root := handover.Host().FS()
	memory, err := kexecseg.ReadMemoryMap(root)
	g.Check(err, "read memory map")
	img, err := l.Plan(context.Background(), &kexecseg.Request{Memory: memory, IMASize: imaSize, Root: root})
	g.Check(err, "plan")
	return img
}

// fill puts the kernel's list, as it is now, into the image's buffer.
func fill(g *Guest, img *kexecseg.Image) (list []byte) {
	buffer, err := img.Map(img.IMA)
	g.Check(err, "map")
	list = g.List()
	_, err = imalog.Dump(buffer.Bytes(), imalog.Records(list, nil))
	g.Check(err, "dump")
	g.Check(buffer.Unmap(), "unmap")
	return list
}

func jump(g *Guest) {
	g.Check(kexecseg.Reboot(), "kexec")
	g.Fatalf("kexec returned")
}

// plain is a kexec as everybody does it: no list goes along.
var plain = Scenario{Name: "plain", Boots: []func(*Guest){
	func(g *Guest) {
		g.MeasureFiles(5, "before")
		g.Check(kexecseg.Load(plan(g, target(g), 0)), "load")
		jump(g)
	},
	func(g *Guest) {
		arriveAs(g, handover.Lost)
		g.MeasureFiles(5, "after")
		g.Capture("end")
	},
}}

func TestPlainKexecLosesTheList(t *testing.T) {
	for _, k := range KernelNames() {
		t.Run(k, func(t *testing.T) {
			res := Run(t, Config{Scenario: "plain", Kernels: []string{k, k}})
			c := res.Capture("end")
			JudgeLost(t, c)
			list := names(t, c.List())
			if list[0] != "boot_aggregate" || slices.Contains(list, "/before-0") || !slices.Contains(list, "/after-4") {
				t.Errorf("the list holds %q, want the second boot alone", list)
			}
		})
	}
}

// stale is the fault that this module is about: the list is read when the image is
// loaded, and not again.
var stale = Scenario{Name: "stale", Boots: []func(*Guest){
	func(g *Guest) {
		g.MeasureFiles(5, "before")
		img := plan(g, target(g), 1<<16) // reads kernel and initramfs, which IMA measures
		g.Put("sent", fill(g, img))
		g.Check(kexecseg.Load(img), "load")
		if g.Arg("late") != "" {
			g.MeasureFiles(5, "late")
		}
		jump(g)
	},
	func(g *Guest) {
		want := handover.Complete
		if g.Arg("late") != "" {
			want = handover.Lost
		}
		r := arriveAs(g, want)
		if count := countRecords(g, r); want == handover.Lost && r.Since != count {
			g.Errorf("records are said to be lost before record %d, and this boot begins with record %d", r.Since, count)
		}
		g.MeasureFiles(5, "after")
		g.Capture("end")
	},
}}

// countRecords counts the records before this boot's boot_aggregate.
func countRecords(g *Guest, r *handover.Report) int {
	i, last := 0, -1
	for rec, err := range r.List.Records() {
		g.Check(err, "list")
		if rec.BootAggregate() {
			last = i
		}
		i++
	}
	return last
}

func TestListReadAtLoad(t *testing.T) {
	t.Run("nothing measured afterwards", func(t *testing.T) {
		res := Run(t, Config{Scenario: "stale", Kernels: []string{"6.12", "6.12"}})
		c := res.Capture("end")
		Judge(t, c)
		carried(t, res, c, "sent")
	})
	t.Run("five files measured afterwards", func(t *testing.T) {
		res := Run(t, Config{Scenario: "stale", Kernels: []string{"6.12", "6.12"}, Args: map[string]string{"late": "yes"}})
		c := res.Capture("end")
		JudgeLost(t, c)
		carried(t, res, c, "sent")
		if slices.Contains(names(t, c.List()), "/late-0") {
			t.Error("a file that was measured after the list was read arrived")
		}
	})
}

// cut asks for a list that is cut instead of a larger buffer.
var cut = Scenario{Name: "cut", Boots: []func(*Guest){
	func(g *Guest) {
		h := load(g, &handover.Options{TPM: g.TPM(), Truncate: true})
		buffer := h.Status().Buffer
		g.MeasureFiles(300, "more")
		g.Check(h.Seal(context.Background()), "seal")
		s := h.Status()
		if s.Buffer != buffer || s.Cut == 0 {
			g.Errorf("buffer of %d bytes became %+v", buffer, s)
		}
		b, err := json.Marshal(s)
		g.Check(err, "encode status")
		g.Put("status", b)
		execute(g, h)
	},
	func(g *Guest) {
		arriveAs(g, handover.Truncated)
		g.Capture("end")
	},
}}

func TestTruncatedByOption(t *testing.T) {
	res := Run(t, Config{Scenario: "cut", Kernels: []string{"6.12", "6.12"}})
	c := res.Capture("end")
	JudgeLost(t, c)
	var s handover.Status
	var r handover.Report
	if err := errors.Join(json.Unmarshal(res.Files["status"], &s), json.Unmarshal(res.Files["report1"], &r)); err != nil {
		t.Fatal(err)
	}
	if r.Missing != s.Cut {
		t.Errorf("%d records are reported missing, %d were cut", r.Missing, s.Cut)
	}
	// Up to where it was cut the list is whole, and the events follow.
	list := names(t, c.List())
	sent := names(t, res.Files["sent0"])
	if !slices.Equal(list[:r.KexecLoad], sent[:r.KexecLoad]) {
		t.Errorf("the list parts from the one that was sent before record %d:\n%q\n%q", r.KexecLoad, list, sent)
	}
	inOrder(t, list[r.KexecLoad:], events.KexecLoad, events.KexecExecute, "boot_aggregate")
	// The figures of the events say that records are missing before kexec_execute.
	if r.Since < r.KexecLoad || r.Since > r.KexecExecute {
		t.Errorf("records are said to be missing before record %d, not before %d or %d", r.Since, r.KexecLoad, r.KexecExecute)
	}
}
