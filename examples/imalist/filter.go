package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A filter chooses records. What it is empty of it does not ask for.
type filter struct {
	names     []*regexp.Regexp // one of them
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
	return slices.ContainsFunc(f.names, func(re *regexp.Regexp) bool { return re.MatchString(name) })
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

// glob compiles a pattern of a shell for a whole name. An asterisk stands for
// anything, slashes too.
func glob(pattern string) (*regexp.Regexp, error) {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			b.WriteString(`.*`)
		case '?':
			b.WriteString(`.`)
		case '[':
			class, n := globClass(pattern[i:])
			b.WriteString(class)
			i += n - 1
		case '\\':
			if i+1 < len(pattern) {
				i++
			}
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		default:
			n := i + 1
			for n < len(pattern) && !strings.ContainsRune(`*?[\`, rune(pattern[n])) {
				n++
			}
			b.WriteString(regexp.QuoteMeta(pattern[i:n]))
			i = n - 1
		}
	}
	b.WriteString(`\z`)
	re, err := regexp.Compile(b.String())
	if err != nil {
		return nil, fmt.Errorf("%q is no pattern: give something like '/usr/bin/*'", pattern)
	}
	return re, nil
}

// globClass translates the class at the start of a pattern, such as [a-z] or
// [!0-9], and returns how many bytes it takes. One without an end is a bracket.
func globClass(pattern string) (string, int) {
	start := 1
	if start < len(pattern) && (pattern[start] == '!' || pattern[start] == '^') {
		start++
	}
	end := start + 1 // a bracket at once does not close
	for end < len(pattern) && pattern[end] != ']' {
		end++
	}
	if end >= len(pattern) {
		return `\[`, 1
	}
	class := strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(pattern[start:end])
	if start == 2 {
		class = "^" + class
	}
	return "[" + class + "]", end + 1
}
