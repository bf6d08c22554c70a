//go:build linux

package vmtest

import (
	"bufio"
	"fmt"
	"io"
)

// cpioWriter writes a cpio archive in the "newc" form, the one that the kernel
// unpacks as an initramfs (Documentation/driver-api/early-userspace/buffer-format.rst).
type cpioWriter struct {
	w   *bufio.Writer
	n   int64
	ino uint32
	err error
}

func newCPIOWriter(w io.Writer) *cpioWriter {
	return &cpioWriter{w: bufio.NewWriterSize(w, 1<<16)}
}

// File types of the mode field (POSIX).
const (
	modeDir  = 0o040000
	modeChar = 0o020000
	modeFile = 0o100000
)

func (c *cpioWriter) dir(name string) { c.entry(name, modeDir|0o755, 0, 0, nil) }
func (c *cpioWriter) file(name string, perm uint32, data []byte) {
	c.entry(name, modeFile|perm, 0, 0, data)
}
func (c *cpioWriter) char(name string, perm, major, minor uint32) {
	c.entry(name, modeChar|perm, major, minor, nil)
}

func (c *cpioWriter) entry(name string, mode, major, minor uint32, data []byte) {
	if int64(len(data)) > 1<<32-1 {
		c.fail(fmt.Errorf("vmtest: %s: %d bytes do not fit into a cpio entry", name, len(data)))
		return
	}
	c.ino++
	c.printf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
	c.pad()
	c.write(data)
	c.pad()
}

// Close ends the archive.
func (c *cpioWriter) Close() error {
	c.entry("TRAILER!!!", 0, 0, 0, nil)
	if c.err == nil {
		c.err = c.w.Flush()
	}
	return c.err
}

func (c *cpioWriter) pad() {
	for c.err == nil && c.n%4 != 0 {
		c.write([]byte{0})
	}
}

func (c *cpioWriter) printf(format string, args ...any) {
	c.write(fmt.Appendf(nil, format, args...))
}

func (c *cpioWriter) write(b []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.fail(err)
}

func (c *cpioWriter) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}
