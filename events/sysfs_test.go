package events

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/imakexec/imakexec/imalog"
)

func sysfs(v imalog.Values) fstest.MapFS {
	fsys := fstest.MapFS{"sys/class/tpm/tpm0/tpm_version_major": {Data: []byte("2\n")}}
	for alg, value := range v {
		fsys["sys/class/tpm/tpm0/pcr-"+imalog.AlgName(alg)+"/10"] = &fstest.MapFile{Data: []byte(strings.ToUpper(hex.EncodeToString(value)) + "\n")}
	}
	return fsys
}

func TestSysfsValues(t *testing.T) {
	want := readPCR(t, mainline+"arrived")
	got, err := SysfsValues(sysfs(want), 10)
	if err != nil || !got.Equal(want) || len(got) != 3 {
		t.Errorf("%x, %v; want %x", got, err, want)
	}
}

func TestSysfsErrors(t *testing.T) {
	const dir = "sys/class/tpm/tpm0/"
	good := imalog.Values{imalog.AlgSHA1: make([]byte, 20)}
	tests := []struct {
		name string
		fsys fs.FS
		pcr  uint32
		want error // nil: any
	}{
		{"no TPM", fstest.MapFS{"sys/class": {Mode: fs.ModeDir}}, 10, ErrNoTPM},
		{"old kernel", fstest.MapFS{dir + "pcrs": {}}, 10, ErrNoPCRFiles},
		{"no such PCR", sysfs(good), 24, fs.ErrNotExist},
		{"not hex", fstest.MapFS{dir + "pcr-sha1/10": {Data: []byte("zz\n")}}, 10, nil},
		{"too short", fstest.MapFS{dir + "pcr-sha1/10": {Data: []byte("0011\n")}}, 10, nil},
	}
	for _, tt := range tests {
		v, err := SysfsValues(tt.fsys, tt.pcr)
		if err == nil || v != nil || (tt.want != nil && !errors.Is(err, tt.want)) {
			t.Errorf("%s: %x, %v, want %v", tt.name, v, err, tt.want)
		}
	}
}

// movingFS has the PCR change after the first file of each of a number of
// readings.
type movingFS struct {
	fstest.MapFS
	next  []imalog.Values
	reads int
}

func (m *movingFS) Open(name string) (fs.File, error) {
	f, err := m.MapFS.Open(name)
	if strings.HasSuffix(name, "/10") {
		if m.reads++; m.reads%2 == 1 && len(m.next) > 0 {
			m.MapFS, m.next = sysfs(m.next[0]), m.next[1:]
		}
	}
	return f, err
}

func (m *movingFS) ReadFile(name string) ([]byte, error) {
	b, err := m.MapFS.ReadFile(name)
	if f, openErr := m.Open(name); openErr == nil {
		f.Close()
	}
	return b, err
}

// TestSysfsOfOneMoment: banks are separate files, and the kernel extends
// between two of them.
func TestSysfsOfOneMoment(t *testing.T) {
	var moments []imalog.Values
	for i := range 100 {
		moments = append(moments, replay(t, nil, files(t, i, "f")...))
	}
	m := &movingFS{MapFS: sysfs(moments[0]), next: moments[1:4]}
	got, err := SysfsValues(m, 10)
	if err != nil || !got.Equal(moments[3]) {
		t.Errorf("%x, %v; want %x", got, err, moments[3])
	}
	m = &movingFS{MapFS: sysfs(moments[0]), next: moments[1:]}
	if got, err := SysfsValues(m, 10); !errors.Is(err, ErrUnsteady) {
		t.Errorf("a PCR that never rests: %x, %v", got, err)
	}
}
