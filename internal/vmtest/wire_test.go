//go:build linux

package vmtest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestWire(t *testing.T) {
	sent := []message{
		{msgBoot, "0", nil},
		{msgFile, "end/list", []byte("a\x00VMTb")},
		{msgLog, "", bytes.Repeat([]byte{0xff}, 100_000)},
		{msgDone, "", nil},
	}
	var stream []byte
	for _, m := range sent {
		stream = append(stream, "stray \x00\x00V"...)
		stream = m.append(stream)
	}
	r := bufio.NewReader(bytes.NewReader(stream))
	for i, want := range sent {
		got, err := readMessage(r)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if got.kind != want.kind || got.name != want.name || !bytes.Equal(got.data, want.data) {
			t.Errorf("message %d came out as %+v", i, got)
		}
	}
	if _, err := readMessage(r); err != io.EOF {
		t.Errorf("after the last message: %v, want EOF", err)
	}
}

func TestWireDamaged(t *testing.T) {
	m := message{msgFile, "name", []byte("some data")}
	good := m.append(nil)
	for i := len(wireMagic); i < len(good); i++ {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		if _, err := readMessage(bufio.NewReader(bytes.NewReader(bad))); !errors.Is(err, errWire) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
		if _, err := readMessage(bufio.NewReader(bytes.NewReader(good[:i]))); !errors.Is(err, errWire) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
}
