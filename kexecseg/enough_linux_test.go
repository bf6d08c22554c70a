package kexecseg

import (
	"errors"
	"testing"
	"testing/fstest"
)

func TestCheckAvailable(t *testing.T) {
	img := &Image{Segments: []Segment{{Phys: Range{1 << 20, 40 << 20}}, {Phys: Range{64 << 20, 24 << 20}}}}
	for meminfo, want := range map[string]error{
		"MemTotal:  250000 kB\nMemFree: 1 kB\nMemAvailable:   65536 kB\n":     nil,
		"MemTotal:  250000 kB\nMemFree: 90000 kB\nMemAvailable:   65535 kB\n": ErrNoMemory,
		"MemTotal:  250000 kB\n": nil,
	} {
		err := checkAvailable(fstest.MapFS{"proc/meminfo": {Data: []byte(meminfo)}}, img)
		if !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", meminfo, err, want)
		}
	}
	if err := checkAvailable(fstest.MapFS{}, img); err != nil {
		t.Errorf("no meminfo: %v", err)
	}
}
