//go:build linux

package vmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/kexecseg"
	"github.com/imakexec/imakexec/kexecseg/linuximage"
)

func TestMain(m *testing.M) {
	Main(m, append(kexecsegScenarios(), measure, ending, tools,
		pair, plain, stale, cut, outgrown, reload, unload, exclusion, persist, refused, limited, bare, long)...)
}

// target is the next boot's kernel with an initramfs like this one's.
func target(g *Guest) *linuximage.Linux {
	return &linuximage.Linux{
		Kernel:  bytes.NewReader(g.ReadFile(g.KernelPath(g.Boot + 1))),
		Initrd:  bytes.NewReader(g.Initramfs()),
		Cmdline: g.NextCmdline(),
	}
}

func load(g *Guest, opts *handover.Options) *handover.Handover {
	if opts == nil {
		opts = &handover.Options{TPM: g.TPM()}
	}
	h, err := handover.Load(context.Background(), target(g), opts)
	g.Check(err, "load")
	return h
}

// execute seals, sends the list that is handed over as "sent", and jumps.
func execute(g *Guest, h *handover.Handover) {
	ctx := context.Background()
	g.Check(h.Seal(ctx), "seal")
	putList(g, fmt.Sprintf("sent%d", g.Boot))
	g.Check(h.Execute(ctx), "execute")
	g.Fatalf("execute returned")
}

// putList sends the list that the PCR proves.
func putList(g *Guest, name string) {
	list, err := handover.ReadList(context.Background(), &handover.ReadOptions{TPM: g.TPM()})
	g.Check(err, "read list")
	if !list.Proof.Proved {
		g.Errorf("%s: %v", name, list.Proof)
	}
	g.Put(name, list.Binary)
}

// arrive sends what Arrive finds, without the list and the audit.
func arrive(g *Guest) *handover.Report {
	opts := &handover.ReadOptions{}
	if g.HasTPM() {
		opts.TPM = g.TPM()
	}
	r, err := handover.Arrive(context.Background(), opts)
	g.Check(err, "arrive")
	g.Logf("%v", r)
	short := *r
	short.List, short.Audit = nil, nil
	b, err := json.Marshal(short)
	g.Check(err, "encode report")
	g.Put(fmt.Sprintf("report%d", g.Boot), b)
	return r
}

// arriveAs is arrive where only one verdict will do.
func arriveAs(g *Guest, want handover.Verdict) *handover.Report {
	r := arrive(g)
	if r.Verdict != want {
		g.Errorf("arrived %v, want %s", r, want)
	}
	return r
}

// arrivesWhole is the last boot of many scenarios.
func arrivesWhole(g *Guest) {
	arriveAs(g, handover.Complete)
	g.Capture("end")
}

// names returns the names of a list's records; what has none, its template.
func names(t *testing.T, list []byte) []string {
	t.Helper()
	var names []string
	for rec, err := range imalog.Records(list, nil) {
		if err != nil {
			t.Fatal(err)
		}
		name := rec.Name()
		if name == "" {
			name = rec.Template
		}
		names = append(names, name)
	}
	return names
}

// inOrder fails the test unless the names appear in the list, each once, in this
// order, whatever else is between them.
func inOrder(t *testing.T, list []string, want ...string) {
	t.Helper()
	i := 0
	for _, name := range list {
		if i < len(want) && name == want[i] {
			i++
		}
	}
	if i < len(want) {
		t.Fatalf("%s is not in the list, or not after %q:\n%s", want[i], want[:i], strings.Join(list, "\n"))
	}
}

// files names what MeasureFiles(n, prefix) measures.
func files(n int, prefix string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("/%s-%d", prefix, i)
	}
	return out
}

// carried fails the test unless the list begins with what was sent.
func carried(t *testing.T, res *Result, c Capture, sent string) {
	t.Helper()
	b := res.Files[sent]
	if len(b) == 0 {
		t.Fatalf("the guest sent no list %q", sent)
	}
	if !bytes.HasPrefix(c.List(), b) {
		t.Errorf("the list that arrived does not begin with the one that was sent:\n%s\nsent:\n%s",
			strings.Join(names(t, c.List()), "\n"), strings.Join(names(t, b), "\n"))
	}
}

// pair measures files before Load, between Load and Execute, and after arrival.
var pair = Scenario{Name: "pair", Boots: []func(*Guest){chainBoot}}

func chainBoot(g *Guest) {
	if g.Boot > 0 {
		arriveAs(g, handover.Complete)
	}
	g.MeasureFiles(5, fmt.Sprintf("before%d", g.Boot))
	if g.Last() {
		g.Capture("end")
		return
	}
	h := load(g, nil)
	g.MeasureFiles(5, fmt.Sprintf("between%d", g.Boot))
	execute(g, h)
}

// judgeChain is the whole verdict on a machine that ran chainBoot.
func judgeChain(t *testing.T, res *Result, boots int, banks ...string) {
	t.Helper()
	c := res.Capture("end")
	Judge(t, c, banks...)
	list := names(t, c.List())
	var want []string
	for i := range boots {
		want = append(want, "boot_aggregate")
		want = append(want, files(5, fmt.Sprintf("before%d", i))...)
		if i < boots-1 {
			want = append(append(want, files(5, fmt.Sprintf("between%d", i))...), events.KexecLoad, events.KexecExecute)
			carried(t, res, c, fmt.Sprintf("sent%d", i))
		}
	}
	inOrder(t, list, want...)
	if list[0] != "boot_aggregate" {
		t.Errorf("the list begins with %s, not with the first boot's boot_aggregate", list[0])
	}
	var r handover.Report
	if err := json.Unmarshal(res.Files[fmt.Sprintf("report%d", boots-1)], &r); err != nil {
		t.Fatal(err)
	}
	if r.Boots != boots || r.Between < 5 || r.KexecLoad < 0 || r.KexecExecute != r.KexecLoad+1 {
		t.Errorf("report %+v, want %d boots and the 5 records between the events' counts", r, boots)
	}
	t.Logf("%d records, %d between Load and Execute", len(list), r.Between)
}

// Every sender hands its list over to every receiver.
func TestPairs(t *testing.T) {
	for _, from := range KernelNames() {
		for _, to := range KernelNames() {
			t.Run(from+" to "+to, func(t *testing.T) {
				judgeChain(t, Run(t, Config{Scenario: "pair", Kernels: []string{from, to}}), 2)
			})
		}
	}
}

// Kernels with CONFIG_IMA_KEXEC can send a list, but only through
// kexec_file_load(2); one of 6.16 and later measures a kexec_execute of its own
// whichever way it was loaded.
func TestPairsWithKernelsThatSend(t *testing.T) {
	for _, k := range ExtraKernels() {
		for _, kernels := range [][]string{{k, "7.x"}, {"6.1", k}, {k, k}} {
			t.Run(strings.Join(kernels, " to "), func(t *testing.T) {
				judgeChain(t, Run(t, Config{Scenario: "pair", Kernels: kernels}), 2)
			})
		}
	}
}

// Four banks: 6.1 has no SHA-512, so its sha384 and sha512 banks get padded SHA-1
// digests, and the mode changes at the boundary.
func TestPairsFourBanks(t *testing.T) {
	banks := []string{"sha1", "sha256", "sha384", "sha512"}
	for _, k := range [][]string{{"6.1", "7.x"}, {"7.x", "6.1"}, {"6.12", "7.x"}} {
		t.Run(strings.Join(k, " to "), func(t *testing.T) {
			judgeChain(t, Run(t, Config{Scenario: "pair", Kernels: k, Banks: banks}), 2, banks...)
		})
	}
}

func TestChain(t *testing.T) {
	judgeChain(t, Run(t, Config{Scenario: "pair", Kernels: []string{"6.1", "6.12", "7.x"}}), 3)
}

// outgrown measures far more than the buffer has room for.
var outgrown = Scenario{Name: "outgrown", Boots: []func(*Guest){
	func(g *Guest) {
		h := load(g, nil)
		before := h.Status().Buffer
		g.MeasureFiles(300, "more")
		g.Check(h.Seal(context.Background()), "seal")
		s := h.Status()
		if s.Buffer <= before || s.Size > s.Buffer || s.Cut != 0 {
			g.Errorf("buffer of %d bytes became %+v", before, s)
		}
		execute(g, h)
	},
	arrivesWhole,
}}

func TestOutgrownBuffer(t *testing.T) {
	res := Run(t, Config{Scenario: "outgrown", Kernels: []string{"6.12", "6.12"}})
	c := res.Capture("end")
	Judge(t, c)
	carried(t, res, c, "sent0")
	inOrder(t, names(t, c.List()), files(300, "more")...)
}

// reload loads ten times before it executes.
var reload = Scenario{Name: "reload", Boots: []func(*Guest){
	func(g *Guest) {
		var h *handover.Handover
		for i := range 10 {
			if h != nil {
				g.Check(h.Close(), "close")
			}
			h = load(g, nil)
			g.MeasureFiles(2, fmt.Sprintf("round%d", i))
		}
		execute(g, h)
	},
	arrivesWhole,
}}

func TestLoadTenTimes(t *testing.T) {
	res := Run(t, Config{Scenario: "reload", Kernels: []string{"7.x", "7.x"}})
	c := res.Capture("end")
	Judge(t, c)
	carried(t, res, c, "sent0")
	list := names(t, c.List())
	for _, event := range []string{events.KexecLoad, events.KexecExecute} {
		if n := strings.Count(strings.Join(list, "\n"), event); n != 1 {
			t.Errorf("%d records %s, want one", n, event)
		}
	}
}

// unload loads, unloads and reboots through the firmware.
var unload = Scenario{Name: "unload", Boots: []func(*Guest){
	func(g *Guest) {
		h := load(g, &handover.Options{TPM: g.TPM(), EventsAtLoad: g.Arg("events") == "at load"})
		g.MeasureFiles(3, "loaded")
		g.Check(h.Unload(), "unload")
		if loaded, err := kexecseg.Loaded(handover.Host().FS()); err != nil || loaded {
			g.Errorf("loaded after Unload: %v, %v", loaded, err)
		}
		g.MeasureFiles(3, "unloaded")
		putList(g, "list")
		g.Capture("unloaded")
		g.Reboot()
	},
	func(g *Guest) {
		arriveAs(g, handover.ColdBoot)
		g.Capture("end")
	},
}}

func TestUnload(t *testing.T) {
	for _, when := range []string{"at execute", "at load"} {
		t.Run("events "+when, func(t *testing.T) {
			res := Run(t, Config{Scenario: "unload", Kernels: []string{"6.12", "6.12"}, Args: map[string]string{"events": when}})
			c := res.Capture("unloaded")
			if when == "at load" {
				// kexec_load is in the PCR and in no kernel's list: only ReadList has it.
				JudgeLost(t, c)
				c["binary_runtime_measurements"] = res.Files["list"]
				c["runtime_measurements_count"] = fmt.Append(nil, len(names(t, res.Files["list"])))
			}
			Judge(t, c)
			Judge(t, res.Capture("end"))
		})
	}
}
