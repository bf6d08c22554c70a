package main

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A filter chooses records. What it is empty of it does not ask for.
type filter struct {
	names     []func(name string) bool // one of them
	templates []string
	pcrs      []uint32
	boots     boots
}

// active reports whether the filter leaves anything out.
func (f *filter) active() bool {
	return len(f.names) > 0 || len(f.templates) > 0 || len(f.pcrs) > 0 || f.boots != boots{}
}

func (f *filter) match(e *entry) bool {
	if len(f.pcrs) > 0 && !slices.Contains(f.pcrs, e.PCR) {
		return false
	}
	if len(f.templates) > 0 && !slices.Contains(f.templates, e.Template) {
		return false
	}
	if f.boots.from > 0 && (e.Boot.Number < f.boots.from || f.boots.to > 0 && e.Boot.Number > f.boots.to) {
		return false
	}
	if len(f.names) == 0 {
		return true
	}
	name := e.Name()
	return slices.ContainsFunc(f.names, func(match func(string) bool) bool { return match(name) })
}

// boots is a range of boots, the first being 1; to is 0 where it is open.
type boots struct {
	from, to int
	last     bool // the last one: from is known when the list has been read once
}

// parseBoots reads "2", "2-3", "2-" or "last".
func parseBoots(s string) (boots, error) {
	if s == "last" {
		return boots{last: true}, nil
	}
	first, rest, ranged := strings.Cut(s, "-")
	b := boots{}
	var err error
	if b.from, err = strconv.Atoi(first); err == nil {
		b.to = b.from
		if ranged {
			b.to = 0
			if rest != "" {
				b.to, err = strconv.Atoi(rest)
			}
		}
	}
	if err != nil || b.from < 1 || b.to < 0 || ranged && rest != "" && b.to < b.from {
		return boots{}, fmt.Errorf("%q is no boot: give 2, 1-2, 2- or last", s)
	}
	return b, nil
}

// glob returns what tells the names that a pattern of a shell stands for. An
// asterisk is anything, slashes too.
func glob(pattern string) (func(name string) bool, error) {
	// path.Match keeps slashes out of asterisks, so there must be none. A name has
	// no NUL.
	flat := strings.NewReplacer("/", "\x00")
	pattern = strings.NewReplacer(`\\`, `\\`, `\[`, `\[`, "[!", "[^").Replace(flat.Replace(pattern))
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, errors.New("no pattern: give something like '/usr/bin/*'")
	}
	return func(name string) bool {
		ok, err := path.Match(pattern, flat.Replace(name))
		return ok && err == nil
	}, nil
}
