package kexecseg

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"
)

func TestLoaded(t *testing.T) {
	for content, want := range map[string]bool{"0\n": false, "1\n": true, "1": true} {
		fsys := fstest.MapFS{"sys/kernel/kexec_loaded": {Data: []byte(content)}, "sys/kernel/kexec_crash_loaded": {Data: []byte("0\n")}}
		if got, err := Loaded(fsys); got != want || err != nil {
			t.Errorf("%q: %v, %v", content, got, err)
		}
		if got, err := CrashLoaded(fsys); got || err != nil {
			t.Errorf("crash: %v, %v", got, err)
		}
	}
	if _, err := Loaded(fstest.MapFS{}); errors.Is(err, ErrNotSupported) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("sysfs is not there: %v", err)
	}
	if _, err := Loaded(fstest.MapFS{"sys/kernel/osrelease": {}}); !errors.Is(err, ErrNotSupported) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := CrashLoaded(fstest.MapFS{"sys/kernel/kexec_crash_loaded": {Data: []byte("yes\n")}}); err == nil || errors.Is(err, ErrNotSupported) {
		t.Errorf("odd file: %v", err)
	}
}
