package main

import (
	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// An entry is a record and where it stands in the list.
type entry struct {
	*imalog.Record
	Index   int             // records before it
	Offset  int64           // bytes before it, in binary form
	Boot    boot            // that measured it
	Figures *events.Figures // of a kexec_load or kexec_execute, else nil
	Wrong   bool            // the listed template digest is not that of the data
}

// A boot is how a part of the list begins.
type boot struct {
	Number int  // from 1
	First  int  // index of its first record
	Whole  bool // that is a boot_aggregate
	// Load and Execute are the indexes of the kexec events of the boot before; -1
	// where there is none.
	Load, Execute int
}

// A placer tells of each record of a list, as they pass, where it stands.
type placer struct {
	alg uint16 // of the template digests; 0: by their size

	index         int
	offset        int64
	boot          boot
	load, execute int // of this boot
}

func (p *placer) place(rec *imalog.Record) entry {
	if begins := rec.BootAggregate(); p.index == 0 || begins {
		p.boot = boot{Number: p.boot.Number + 1, First: p.index, Whole: begins, Load: -1, Execute: -1}
		if p.index > 0 {
			p.boot.Load, p.boot.Execute = p.load, p.execute
		}
		p.load, p.execute = -1, -1
	}
	e := entry{Record: rec, Index: p.index, Offset: p.offset, Boot: p.boot, Wrong: wrongDigest(rec, p.alg)}
	if name := rec.Name(); name == events.KexecLoad || name == events.KexecExecute {
		if f, err := events.ParseFigures(rec.Buf()); err == nil {
			e.Figures = &f
			if name == events.KexecLoad {
				p.load = p.index
			} else {
				p.execute = p.index
			}
		}
	}
	p.index++
	p.offset += int64(rec.BinarySize())
	return e
}
