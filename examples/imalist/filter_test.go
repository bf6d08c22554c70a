package main

import (
	"strings"
	"testing"

	"github.com/imakexec/imakexec/imalog"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"/usr/bin/*", "/usr/bin/ls", true},
		{"/usr/*", "/usr/lib/x/y.so", true},
		{"/usr/*", "/var/usr/x", false},
		{"*.so", "/usr/lib/x.so", true},
		{"*.so", "/usr/lib/x.so.1", false},
		{"*.so", "/usr/lib/xyso", false},
		{"/bin/s?", "/bin/sh", true},
		{"/bin/s?", "/bin/s", false},
		{"/bin/[a-c]*", "/bin/cat", true},
		{"/bin/[!a-c]*", "/bin/cat", false},
		{"/bin/[^a-c]*", "/bin/dog", true},
		{`/bin/[\]x]`, "/bin/]", true},
		{"/bin/[/a]", "/bin//", true},
		{`/bin/\[!`, "/bin/[!", true},
		{`/bin/\\[!a]`, `/bin/\b`, true},
		{"/\xff*", "/\xff\xfe", true},
		{"/d/?", "/d/\xff", true},
		{`/bin/\*`, "/bin/*", true},
		{`/bin/\*`, "/bin/x", false},
		{"/d/sp_ace_*n", "/d/sp_ace_\xff\xfe-ün", true},
		{"/d/über*", "/d/überall", true},
		{"/d/*", "/d/a\nb", true},
		{"", "", true},
		{"", "x", false},
	} {
		match, err := glob(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		if got := match(c.name); got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.name, got)
		}
	}
	for _, pattern := range []string{"[", "/bin/[a", "[]", `a\`} {
		if _, err := glob(pattern); err == nil {
			t.Errorf("%q is taken", pattern)
		}
	}
}

func TestParseBoots(t *testing.T) {
	for _, c := range []struct {
		in   string
		want boots
		bad  bool
	}{
		{in: "1", want: boots{from: 1, to: 1}},
		{in: "2-4", want: boots{from: 2, to: 4}},
		{in: "2-", want: boots{from: 2}},
		{in: "last", want: boots{last: true}},
		{in: "0", bad: true},
		{in: "-1", bad: true},
		{in: "3-2", bad: true},
		{in: "2-0", bad: true},
		{in: "two", bad: true},
		{in: "", bad: true},
	} {
		got, err := parseBoots(c.in)
		if (err != nil) != c.bad || got != c.want {
			t.Errorf("%q: %+v, %v", c.in, got, err)
		}
	}
}

func TestFilter(t *testing.T) {
	bin, err := glob("/bin/*")
	if err != nil {
		t.Fatal(err)
	}
	rec := imalog.Record{PCR: 10, Template: "ima-ng", Digest: make([]byte, 20),
		Data: []byte("\x02\x00\x00\x00x:\x08\x00\x00\x00/bin/ls\x00")}
	e := entry{Record: &rec, Boot: boot{Number: 2}}
	for name, c := range map[string]struct {
		f    filter
		want bool
	}{
		"nothing asked":  {filter{}, true},
		"name":           {filter{names: []func(string) bool{bin}}, true},
		"PCR":            {filter{pcrs: []uint32{9, 10}}, true},
		"another PCR":    {filter{pcrs: []uint32{9}}, false},
		"template":       {filter{templates: []string{"ima-sig", "ima-ng"}}, true},
		"other template": {filter{templates: []string{"ima-sig"}}, false},
		"boot":           {filter{boots: boots{from: 2, to: 2}}, true},
		"from a boot":    {filter{boots: boots{from: 1}}, true},
		"earlier boot":   {filter{boots: boots{from: 1, to: 1}}, false},
		"later boot":     {filter{boots: boots{from: 3}}, false},
		"all but one":    {filter{names: []func(string) bool{bin}, pcrs: []uint32{11}}, false},
	} {
		if got := c.f.match(&e); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if c.f.active() != (name != "nothing asked") {
			t.Errorf("%s: active is %v", name, c.f.active())
		}
	}
}

// FuzzGlob: a pattern whose special characters are escaped is the name itself.
func FuzzGlob(f *testing.F) {
	f.Add("/usr/bin/*", "/usr/bin/ls")
	f.Add("[!a-z]?[", "0x[")
	f.Add(`\`, `[]\^-]`)
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if match, err := glob(pattern); err == nil {
			match(name)
		}
		literal, err := glob(strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(name))
		if err != nil {
			t.Fatal(err)
		}
		if !literal(name) || literal(name+"x") {
			t.Errorf("%q does not match itself, or more", name)
		}
	})
}
