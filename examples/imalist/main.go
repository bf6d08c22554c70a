// Imalist shows measurement lists of Linux IMA to people and programs, and checks
// them against the values of a PCR. See help.go, or run imalist -h.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/imalog"
)

// Exit statuses.
const (
	exitGood  = 0
	exitBad   = 1 // it is not proved, or something was lost
	exitError = 2 // wrong usage, or something cannot be read
)

func main() {
	w := &world{in: os.Stdin, out: os.Stdout, err: os.Stderr, root: os.DirFS("/"), openTPM: openTPM}
	if terminal(os.Stderr) {
		w.progress = os.Stderr
	}
	w.outIsTerminal = terminal(os.Stdout)
	os.Exit(w.run(context.Background(), os.Args[1:]))
}

// world is what the program is connected to.
type world struct {
	in       io.Reader
	out, err io.Writer
	progress io.Writer // the terminal for it; nil: none
	root     fs.FS     // at "/"
	openTPM  func(path string) (transport.TPMCloser, error)

	outIsTerminal bool
}

// run does what the command line asks for and returns the exit status.
func (w *world) run(ctx context.Context, args []string) int {
	c, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		io.WriteString(w.out, help)
		return exitGood
	}
	good := false
	if err == nil {
		out := bufio.NewWriter(w.out)
		switch {
		case len(c.verify) > 0 || c.audit:
			good, err = w.check(ctx, c, out)
		case c.follow:
			good, err = true, w.follow(ctx, c, out)
		default:
			good, err = w.show(c, out)
		}
		if e := out.Flush(); err == nil {
			err = e
		}
	}
	switch {
	case errors.As(err, new(usageError)):
		fmt.Fprintf(w.err, "imalist: %v\nimalist -h explains everything\n", err)
		return exitError
	case err != nil:
		fmt.Fprintln(w.err, "imalist:", message(err))
		return exitError
	case !good:
		return exitBad
	}
	return exitGood
}

// message is an error without the name of the package that begins with it.
func message(err error) string {
	text := err.Error()
	for _, name := range []string{"imalog: ", "events: "} {
		text = strings.TrimPrefix(text, name)
	}
	return text
}

// meter shows the reading of in, unless what is printed is on the same terminal.
func (w *world) meter(in *input, prints bool) *meter {
	if prints && w.outIsTerminal {
		return newMeter(nil, 0)
	}
	return newMeter(w.progress, in.size())
}

func (w *world) note(s string) { fmt.Fprintln(w.err, "imalist:", s) }

// show prints a list.
func (w *world) show(c *command, out *bufio.Writer) (good bool, err error) {
	o := w.opener(c)
	o.raw = c.restore
	in, err := o.open(c.files)
	if err != nil {
		return false, err
	}
	defer in.close()
	m := w.meter(in, true)
	defer m.clear()
	list := in.list(m.add)
	s := show{filter: c.filter, note: func(s string) { m.clear(); w.note(s) }, summary: summary{form: in.describe()}}
	s.placer.alg = in.alg(c.alg)
	good = true
	if c.restore {
		r, err := in.restore()
		if err != nil {
			return false, err
		}
		list, good, s.summary.form = r.list(), r.whole(), r.describe()
		if !good {
			s.note(r.reason())
		}
	}
	if s.filter.boots.last {
		// The error comes again when the list is shown.
		all, _ := imalog.Boots(list)
		s.filter.boots = boots{from: max(1, len(all))}
	}
	s.printer = newPrinter(c.output, out, c.wide)
	return good, s.all(list)
}

// follow prints a list that grows until the context or the user ends it.
func (w *world) follow(ctx context.Context, c *command, out *bufio.Writer) error {
	f := &follower{root: w.root, name: liveName, every: c.every, note: w.note, pause: out.Flush}
	f.opts.Alg = c.alg
	if len(c.files) > 0 {
		f.name = c.files[0]
		f.root = under{ima, os.DirFS(f.name)}
		if info, err := os.Stat(f.name); err != nil {
			return err
		} else if !info.IsDir() {
			return usagef("%s: -follow takes a folder like /sys/kernel/security/ima, or nothing for the running kernel", f.name)
		}
	}
	s := show{filter: c.filter, note: w.note, printer: newPrinter(c.output, out, c.wide)}
	s.placer.alg = c.alg
	f.add = func(rec *imalog.Record) error {
		e := s.placer.place(rec)
		return s.record(&e)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	s.summary.form = "followed until interrupted"
	return s.end(f.run(ctx))
}

// liveAttempts bounds how often the running kernel's list and the TPM are read
// until they fit: something may be measured between the two.
const liveAttempts = 5

// check compares a list with values of a PCR.
func (w *world) check(ctx context.Context, c *command, out *bufio.Writer) (good bool, err error) {
	ck := check{pcr: imalog.DefaultPCR, audit: c.audit, early: c.prefix}
	if len(c.filter.pcrs) > 0 {
		ck.pcr = c.filter.pcrs[0]
	}
	src := &source{stdin: w.in, root: w.root, openTPM: w.openTPM, pcr: ck.pcr}
	start, err := src.all(ctx, c.start)
	if err != nil {
		return false, err
	}
	ck.start = start[ck.pcr]
	live := len(c.files) == 0 && len(c.verify) == 1 && (c.verify[0] == "tpm" || c.verify[0] == tpmDevice)
	var v *verdict
	for range liveAttempts {
		if live && v != nil {
			// One record may be listed and not extended yet.
			ck.early, ck.least = true, v.Records-1
		}
		if len(c.verify) > 0 {
			if ck.pcrs, err = src.all(ctx, c.verify); err != nil {
				return false, err
			}
			if ck.want, err = choose(ck.pcrs[ck.pcr], c.banks); err != nil {
				return false, err
			}
		}
		in, err := w.opener(c).open(c.files)
		if err != nil {
			return false, err
		}
		m := w.meter(in, false)
		ck.listed = in.alg(c.alg)
		v, err = ck.run(ctx, in.list(m.add))
		m.clear()
		in.close()
		if err != nil {
			return false, err
		}
		if !live || v.Good && v.Proved == v.Records {
			break
		}
	}
	if c.output == "json" {
		return v.Good, v.json(out)
	}
	return v.Good, v.print(out)
}

// choose returns the values of the banks, all of them if none is named.
func choose(v imalog.Values, banks []uint16) (imalog.Values, error) {
	if len(banks) == 0 {
		return v, nil
	}
	chosen := imalog.Values{}
	for _, alg := range banks {
		if v[alg] == nil {
			return nil, fmt.Errorf("-bank %s: there is no value for it", imalog.AlgName(alg))
		}
		chosen[alg] = v[alg]
	}
	return chosen, nil
}

func (w *world) opener(c *command) *opener {
	return &opener{stdin: w.in, root: w.root, alg: c.alg}
}
