package kexecseg

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// captured returns the files of each machine in testdata/maps: /proc/iomem, and
// where the machine has one /sys/firmware/memmap, rebuilt from its text.
func captured(t testing.TB) map[string]fs.FS {
	t.Helper()
	dirs, err := filepath.Glob("testdata/maps/*")
	if err != nil || len(dirs) < 20 {
		t.Fatalf("%d captured maps, %v", len(dirs), err)
	}
	machines := make(map[string]fs.FS)
	for _, dir := range dirs {
		fsys := fstest.MapFS{}
		iomem, err := os.ReadFile(dir + "/iomem")
		if err != nil {
			t.Fatal(err)
		}
		fsys["proc/iomem"] = &fstest.MapFile{Data: iomem}
		if text, err := os.ReadFile(dir + "/memmap"); err == nil {
			putMemmap(fsys, string(text))
		}
		machines[filepath.Base(dir)] = fsys
	}
	return machines
}

// putMemmap makes the files of /sys/firmware/memmap.
func putMemmap(fsys fstest.MapFS, text string) {
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		span, kind, _ := strings.Cut(line, " ")
		start, end, _ := strings.Cut(span, "-")
		for name, content := range map[string]string{"start": start, "end": end, "type": kind} {
			fsys[fmt.Sprintf("sys/firmware/memmap/%d/%s", i, name)] = &fstest.MapFile{Data: []byte(content + "\n")}
		}
	}
}

func readMap(t testing.TB, fsys fs.FS) MemoryMap {
	t.Helper()
	m, err := ReadMemoryMap(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
