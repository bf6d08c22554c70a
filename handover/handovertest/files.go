package handovertest

import (
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing/fstest"
	"time"

	"github.com/imakexec/imakexec/imalog"
)

const listName = "binary_runtime_measurements"

// files are the files of a machine that a handover reads, as they are at the
// moment of each Open; only the list goes on growing under an open file.
type files struct{ m *Machine }

func (f files) Open(name string) (fs.File, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if !f.m.noIMA && (name == "sys/kernel/security/ima/"+listName || name == "sys/kernel/security/integrity/ima/"+listName) {
		return &liveFile{m: f.m}, nil
	}
	snapshot, err := f.m.files()
	if err != nil {
		return nil, err
	}
	return snapshot.Open(name)
}

// memory of the machine, in the form of /sys/firmware/memmap: one GiB.
var memory = []struct{ start, end, kind string }{
	{"0x0", "0x9fbff", "System RAM"},
	{"0x9fc00", "0x9ffff", "Reserved"},
	{"0x100000", "0x3ffcefff", "System RAM"},
	{"0x3ffcf000", "0x3fffffff", "Reserved"},
}

func (m *Machine) files() (fstest.MapFS, error) {
	fsys := fstest.MapFS{}
	put := func(name, content string) { fsys[name] = &fstest.MapFile{Data: []byte(content + "\n"), Mode: 0o444} }
	put("proc/sys/kernel/random/boot_id", m.bootID())
	put("sys/kernel/kexec_crash_loaded", "0")
	put("proc/kallsyms", "0000000000000000 T ima_add_template_entry")
	if m.event {
		put("proc/kallsyms", "0000000000000000 t ima_measure_kexec_event")
		put("sys/kernel/security/ima/policy", "measure func=CRITICAL_DATA label=selinux|ima_kexec")
	}
	loaded := "0"
	if m.loaded != nil {
		loaded = "1"
	}
	put("sys/kernel/kexec_loaded", loaded)
	for i, r := range memory {
		dir := fmt.Sprintf("sys/firmware/memmap/%d/", i)
		put(dir+"start", r.start)
		put(dir+"end", r.end)
		put(dir+"type", r.kind)
	}
	if !m.noIMA {
		put("sys/kernel/security/ima/runtime_measurements_count", fmt.Sprint(m.count))
	}
	if m.tpm != nil {
		values, err := m.values(10)
		if err != nil {
			return nil, err
		}
		for alg, v := range values {
			put(fmt.Sprintf("sys/class/tpm/tpm0/pcr-%s/10", imalog.AlgName(alg)), strings.ToUpper(hex.EncodeToString(v)))
		}
	}
	return fsys, nil
}

// liveFile is the open list: at its end it answers io.EOF, and with what is new
// when it is read again.
type liveFile struct {
	m   *Machine
	off int64
}

func (f *liveFile) Read(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.off >= int64(len(f.m.list)) {
		return 0, io.EOF
	}
	n := copy(p, f.m.list[f.off:])
	f.off += int64(n)
	return n, nil
}

func (f *liveFile) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekCurrent {
		offset += f.off
	}
	if whence == io.SeekEnd || offset < 0 {
		return 0, fs.ErrInvalid // as the kernel's seq_file does
	}
	f.off = offset
	return offset, nil
}

func (f *liveFile) Close() error               { return nil }
func (f *liveFile) Stat() (fs.FileInfo, error) { return liveInfo{}, nil }

// liveInfo is what stat(2) says of the list: its size is 0.
type liveInfo struct{}

func (liveInfo) Name() string       { return listName }
func (liveInfo) Size() int64        { return 0 }
func (liveInfo) Mode() fs.FileMode  { return 0o440 }
func (liveInfo) ModTime() time.Time { return time.Time{} }
func (liveInfo) IsDir() bool        { return false }
func (liveInfo) Sys() any           { return nil }
