package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imakexec/imakexec/imalog"
)

// A command is what the command line asks for.
type command struct {
	files []string
	alg   uint16 // of the template digests; 0: to be found out

	output string
	wide   bool
	filter filter

	follow  bool
	every   time.Duration
	restore bool

	verify []string
	audit  bool
	start  []string
	banks  []uint16
	prefix bool
}

// A usageError is in the command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// parse reads the command line. Its error is flag.ErrHelp, when help was asked
// for, or a usageError.
func parse(args []string) (*command, error) {
	c := &command{}
	f := flag.NewFlagSet("imalist", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	output := f.String("o", "", "")
	f.BoolVar(&c.wide, "wide", false, "")
	f.Func("name", "", func(s string) error {
		match, err := glob(s)
		c.filter.names = append(c.filter.names, match)
		return err
	})
	f.Func("match", "", func(s string) error {
		re, err := regexp.Compile(s)
		if err == nil {
			c.filter.names = append(c.filter.names, re.MatchString)
		}
		return err
	})
	f.Func("template", "", func(s string) error {
		c.filter.templates = append(c.filter.templates, strings.Split(s, ",")...)
		return nil
	})
	f.Func("pcr", "", func(s string) error {
		for _, s := range strings.Split(s, ",") {
			n, err := strconv.ParseUint(s, 10, 32)
			if err != nil {
				return fmt.Errorf("%q is no index of a PCR", s)
			}
			c.filter.pcrs = append(c.filter.pcrs, uint32(n))
		}
		return nil
	})
	f.Func("boot", "", func(s string) (err error) {
		c.filter.boots, err = parseBoots(s)
		return err
	})
	f.Func("digest", "", func(s string) (err error) {
		c.alg, err = parseAlg(s)
		return err
	})
	f.BoolVar(&c.follow, "follow", false, "")
	f.DurationVar(&c.every, "every", time.Second, "")
	f.BoolVar(&c.restore, "restore", false, "")
	list := func(to *[]string) func(string) error {
		return func(s string) error { *to = append(*to, s); return nil }
	}
	f.Func("verify", "", list(&c.verify))
	f.BoolVar(&c.audit, "audit", false, "")
	f.Func("start", "", list(&c.start))
	f.Func("bank", "", func(s string) error {
		for _, s := range strings.Split(s, ",") {
			alg, err := parseAlg(s)
			if err != nil {
				return err
			}
			c.banks = append(c.banks, alg)
		}
		return nil
	})
	f.BoolVar(&c.prefix, "prefix", false, "")

	// Flags may stand behind files, too.
	for rest := args; ; {
		if err := f.Parse(rest); err != nil {
			if !errors.Is(err, flag.ErrHelp) {
				err = usageError{err}
			}
			return nil, err
		}
		literal := len(rest) > f.NArg() && rest[len(rest)-f.NArg()-1] == "--"
		if rest = f.Args(); len(rest) == 0 {
			break
		}
		if literal {
			c.files = append(c.files, rest...)
			break
		}
		c.files, rest = append(c.files, rest[0]), rest[1:]
	}
	c.output = *output
	return c, c.check()
}

// check looks for flags that do not go together.
func (c *command) check() error {
	checks := len(c.verify) > 0 || c.audit
	listed := c.filter
	if checks {
		listed.pcrs = nil // it is what is checked
	}
	switch {
	case c.output != "" && !slices.Contains(outputs, c.output):
		return usagef("-o %s: it must be %s", c.output, strings.Join(outputs, ", "))
	case checks && c.output != "" && c.output != "table" && c.output != "json":
		return usagef("-verify and -audit do not print the list: -o can be table or json")
	case checks && listed.active():
		return usagef("-verify and -audit need the whole list: leave out what chooses records")
	case checks && len(c.filter.pcrs) > 1:
		return usagef("-verify and -audit check one PCR at a time")
	case checks && len(c.filter.pcrs) == 1 && c.filter.pcrs[0] == 0:
		return usagef("PCR 0 is the firmware's: it cannot be checked against a measurement list")
	case checks && c.follow:
		return usagef("-follow never ends: it does not go with -verify or -audit")
	case checks && c.restore:
		return usagef("-restore does not go with -verify or -audit")
	case len(c.verify) == 0 && (c.prefix || c.banks != nil || c.start != nil):
		return usagef("-prefix, -bank and -start say how to verify: give -verify as well")
	case c.follow && c.restore:
		return usagef("-restore is for a kexec buffer, -follow for the running kernel")
	case c.follow && len(c.files) > 1:
		return usagef("-follow takes one folder at most")
	case c.follow && c.filter.boots.last:
		return usagef("-boot last: which one is the last is not known while the list grows")
	case c.follow && c.every <= 0:
		return usagef("-every %v: it must be more than 0", c.every)
	}
	dashes := 0
	for _, s := range slices.Concat(c.files, c.verify, c.start) {
		if s == "-" || strings.HasSuffix(s, ",-") {
			dashes++
		}
	}
	if dashes > 1 {
		return usagef("standard input can be read once: give - once")
	}
	return nil
}

func parseAlg(s string) (uint16, error) {
	alg, ok := imalog.AlgByName(s)
	if !ok {
		return 0, fmt.Errorf("%q is no hash algorithm of a PCR bank", s)
	}
	return alg, nil
}
