package handover_test

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/imakexec/imakexec/handover/handovertest"
	"github.com/imakexec/imakexec/kexecseg"
)

// In a PID namespace reboot(2) reboots nothing else: Execute says so before it measures.
func TestPIDNamespace(t *testing.T) {
	b := newBench(t, nil)
	b.opts.System = confined{b.Machine}
	h := b.load()
	if err := h.Execute(context.Background()); !errors.Is(err, kexecseg.ErrNamespace) {
		t.Errorf("executed: %v", err)
	}
	if own := b.attestable().Own; len(own) != 0 {
		t.Errorf("%d events were measured", len(own))
	}
	if err := h.Seal(context.Background()); err != nil {
		t.Errorf("sealed for another to jump: %v", err)
	}
}

// confined is a machine seen from a process that is not in the first PID namespace.
type confined struct{ *handovertest.Machine }

func (c confined) FS() fs.FS {
	return overlay{c.Machine.FS(), "proc/self/ns/pid", &fstest.MapFile{Sys: &syscall.Stat_t{Ino: 4026532000}}}
}
