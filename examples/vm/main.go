//go:build linux

// Vm plays a soft reboot on real kernels, twice, and shows what a verifier makes of
// each: Debian's 6.12 loads Debian's 7.x, some files are measured, it jumps. Once
// with a plain kexec, once with imakexec.
//
// It boots QEMU machines with a software TPM; what it needs of both, and the
// kernels, it brings itself on Debian and Ubuntu (see internal/vmtest). It ends with
// status 0 when the plain kexec lost the list and imakexec did not.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/vmtest"
	"github.com/imakexec/imakexec/kexecseg"
	"github.com/imakexec/imakexec/kexecseg/linuximage"
)

var (
	from    = flag.String("from", "6.12", "the kernel that hands over")
	to      = flag.String("to", "7.x", "the kernel that receives")
	verbose = flag.Bool("v", false, "show all that the kernels say")
)

func main() {
	if vmtest.RunGuest(scenario("plain kexec", plain), scenario("imakexec", soft)) {
		return
	}
	flag.Parse()
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

// scenario is the story with one of two ways to jump.
func scenario(name string, jump func(*vmtest.Guest, *linuximage.Linux)) vmtest.Scenario {
	return vmtest.Scenario{Name: name, Boots: []func(*vmtest.Guest){
		func(g *vmtest.Guest) {
			g.MeasureFiles(5, "early")
			g.Logf("running %s, 5 files are measured", version(g))
			jump(g, &linuximage.Linux{
				Kernel:  bytes.NewReader(g.ReadFile(g.KernelPath(1))),
				Initrd:  bytes.NewReader(g.Initramfs()),
				Cmdline: g.NextCmdline(),
			})
		},
		func(g *vmtest.Guest) {
			g.Logf("running %s", version(g))
			report, err := handover.Arrive(context.Background(), &handover.ReadOptions{TPM: g.TPM()})
			g.Check(err, "arrive")
			g.Logf("%v", report)
			g.Put("verdict", []byte(report.String()))
			g.Capture("end")
		},
	}}
}

func version(g *vmtest.Guest) string {
	return "Linux " + strings.TrimSpace(string(g.ReadFile("/proc/sys/kernel/osrelease")))
}

func late(g *vmtest.Guest) {
	g.MeasureFiles(5, "late")
	g.Logf("loaded the next kernel, then 5 more files are measured")
}

// plain is kexec as bootloaders do it: kexec_load(2) carries no list.
func plain(g *vmtest.Guest, next *linuximage.Linux) {
	root := handover.Host().FS()
	memory, err := kexecseg.ReadMemoryMap(root)
	g.Check(err, "memory map")
	img, err := next.Plan(context.Background(), &kexecseg.Request{Memory: memory, Root: root})
	g.Check(err, "plan")
	g.Check(kexecseg.Load(img), "load")
	late(g)
	g.Check(kexecseg.Reboot(), "kexec")
}

// soft is the same with imakexec.
func soft(g *vmtest.Guest, next *linuximage.Linux) {
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{} // a guest's clock says nothing
			}
			return a
		},
	}))
	h, err := handover.Load(ctx, next, &handover.Options{TPM: g.TPM(), Logger: log})
	g.Check(err, "load")
	late(g)
	g.Check(h.Execute(ctx), "execute")
}

func run(ctx context.Context, out io.Writer) error {
	if err := vmtest.Install(ctx, out); err != nil {
		return err
	}
	var kernels []string
	for _, name := range []string{*from, *to} {
		path, err := vmtest.Kernel(ctx, name)
		if err != nil {
			return err
		}
		kernels = append(kernels, path)
	}
	dir, err := os.MkdirTemp("", "vm")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	init := filepath.Join(dir, "init")
	if err := build(ctx, init); err != nil {
		return err
	}

	var verdicts []*verdict
	for _, name := range []string{"plain kexec", "imakexec"} {
		fmt.Fprintf(out, "\n%s\n", name)
		console := &indent{w: out}
		// The last loglevel wins: 6 shows the kernels' notices and warnings.
		c := vmtest.Config{Scenario: name, Kernels: kernels, Init: init, Console: console, Cmdline: "loglevel=6"}
		if *verbose {
			c.Cmdline = "loglevel=7"
		}
		res, err := vmtest.RunMachine(ctx, &c)
		console.flush()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if res.Failed {
			return fmt.Errorf("%s: the guest reported an error", name)
		}
		v, err := judge(ctx, name, res)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		verdicts = append(verdicts, v)
	}
	fmt.Fprintf(out, "\nWhat a verifier makes of the list and PCR 10 after each\n\n")
	compare(out, verdicts)
	if verdicts[0].matched || !verdicts[1].matched {
		return fmt.Errorf("expected plain kexec to lose the list, and imakexec not to")
	}
	return nil
}

// verdict is what a verifier, outside the machine, makes of what it is sent.
type verdict struct {
	name     string
	records  int
	early    int // files of each kind in the list
	late     int
	banks    []imalog.BankResult
	matched  bool
	sentence string
}

func judge(ctx context.Context, name string, res *vmtest.Result) (*verdict, error) {
	c := res.Capture("end")
	values, err := c.Values()
	if err != nil {
		return nil, err
	}
	list := imalog.Records(c.List(), nil)
	replay, err := imalog.Verify(ctx, list, values, nil)
	if err != nil {
		return nil, err
	}
	v := &verdict{name: name, records: replay.Records, banks: replay.Banks,
		matched: replay.Matched(), sentence: string(res.Files["verdict"])}
	for rec := range list {
		if strings.HasPrefix(rec.Name(), "/early") {
			v.early++
		}
		if strings.HasPrefix(rec.Name(), "/late") {
			v.late++
		}
	}
	return v, nil
}

func compare(out io.Writer, verdicts []*verdict) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	row := func(title string, cell func(*verdict) string) {
		fmt.Fprint(w, title)
		for _, v := range verdicts {
			fmt.Fprintf(w, "\t%s", cell(v))
		}
		fmt.Fprintln(w)
	}
	row("", func(v *verdict) string { return v.name })
	row("records in the list", func(v *verdict) string { return fmt.Sprint(v.records) })
	row("files measured before the load", func(v *verdict) string { return fmt.Sprintf("%d of 5", v.early) })
	row("files measured after the load", func(v *verdict) string { return fmt.Sprintf("%d of 5", v.late) })
	for i, b := range verdicts[0].banks {
		name := imalog.AlgName(b.Alg)
		row(name+" PCR 10", func(v *verdict) string { return fmt.Sprintf("%x…", v.banks[i].Want[:8]) })
		row(name+" replayed from the list", func(v *verdict) string { return fmt.Sprintf("%x…", v.banks[i].Got[:8]) })
	}
	row("attestation", func(v *verdict) string {
		if v.matched {
			return "passes"
		}
		return "FAILS"
	})
	w.Flush()
	for _, v := range verdicts {
		fmt.Fprintf(out, "\n%s arrived %s\n", v.name, v.sentence)
	}
}

// build makes a static binary of this program, which becomes the guests' init.
func build(ctx context.Context, path string) error {
	const self = "github.com/imakexec/imakexec/examples/vm"
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", path, self)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guests' init, from inside the module: %w\n%s", err, out)
	}
	return nil
}

// indent sets the console's lines off from the rest.
type indent struct {
	w    io.Writer
	line []byte
}

func (i *indent) Write(b []byte) (int, error) {
	i.line = append(i.line, bytes.ReplaceAll(b, []byte("\r"), nil)...)
	for {
		line, rest, ok := bytes.Cut(i.line, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		fmt.Fprintf(i.w, "  | %s\n", line)
		i.line = rest
	}
}

func (i *indent) flush() {
	if len(i.line) > 0 {
		fmt.Fprintf(i.w, "  | %s\n", i.line)
	}
}
