package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/imakexec/imakexec/imalog"
)

// An input is a list: one file of it, or several that belong one behind the other,
// as the staged list and the current one do.
type input struct {
	parts []part
}

// A part is a file of a list.
type part struct {
	name string
	form imalog.Form
	data io.ReaderAt
	size int64 // bytes
}

// A sequence is how a list is ranged over, from its start each time.
type sequence = iter.Seq2[imalog.Record, error]

// list ranges over the records. Its error is a *readError.
func (in *input) list(progress func(n int64)) sequence {
	return func(yield func(imalog.Record, error) bool) {
		records := 0
		for i := range in.parts {
			p := &in.parts[i]
			n, start := 0, int64(0)
			if p.form.Kexec {
				start = imalog.HeaderSize
			}
			for rec, err := range p.form.Stream(watched{p.data, progress}, p.size) {
				if err != nil {
					yield(imalog.Record{}, located(p.name, err, records, start))
					return
				}
				if !yield(rec, nil) {
					return
				}
				n++
			}
			records += n
		}
	}
}

// close closes the files.
func (in *input) close() {
	for i := range in.parts {
		if c, ok := in.parts[i].data.(io.Closer); ok {
			c.Close()
		}
	}
}

// alg returns the algorithm of the template digests, named if it was given, 0 if it
// is the one that their size tells.
func (in *input) alg(named uint16) uint16 {
	for i := range in.parts {
		if strings.Contains(filepath.Base(in.parts[i].name), "_sm3") && named == 0 {
			return imalog.AlgSM3_256
		}
	}
	return named
}

// size returns the number of bytes of all parts.
func (in *input) size() int64 {
	var n int64
	for _, p := range in.parts {
		n += p.size
	}
	return n
}

// describe says in words in which form the input is.
func (in *input) describe() string {
	var words []string
	for i := range in.parts {
		p := &in.parts[i]
		if p.size == 0 {
			continue
		}
		if s := p.describe(); len(words) == 0 || words[len(words)-1] != s {
			words = append(words, s)
		}
	}
	if words == nil {
		return "empty"
	}
	return strings.Join(words, " and ")
}

// watched tells of what is read.
type watched struct {
	io.ReaderAt
	progress func(n int64)
}

func (w watched) ReadAt(b []byte, offset int64) (int, error) {
	n, err := w.ReaderAt.ReadAt(b, offset)
	w.progress(int64(n))
	return n, err
}

// An opener opens lists.
type opener struct {
	stdin io.Reader
	root  fs.FS  // at "/"
	alg   uint16 // of the template digests; 0: to be found out
	raw   bool   // do not ask in which form a file is
}

// open opens the files of a list, the running kernel's list if there are none.
func (o *opener) open(names []string) (*input, error) {
	in := &input{}
	if len(names) == 0 {
		p, err := o.live(o.root, liveName)
		if err != nil {
			return nil, err
		}
		in.parts = append(in.parts, p)
	}
	for _, name := range names {
		p, err := o.file(name)
		if err != nil {
			return nil, err
		}
		in.parts = append(in.parts, p)
	}
	return in, nil
}

func (o *opener) file(name string) (part, error) {
	if name == "-" {
		return o.memory("standard input", o.stdin)
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return o.live(under{ima, os.DirFS(name)}, name)
	}
	f, err := os.Open(name)
	if err != nil {
		return part{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return part{}, err
	}
	// Kernel files say that they are empty; those and pipes are read once.
	if !info.Mode().IsRegular() || info.Size() == 0 {
		defer f.Close()
		return o.memory(name, f)
	}
	p := part{name: name, data: f, size: info.Size()}
	return p, o.recognize(&p)
}

// memory reads a part that can be read only once.
func (o *opener) memory(name string, r io.Reader) (part, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return part{}, &readError{name: name, err: err}
	}
	p := part{name: name, data: bytes.NewReader(b), size: int64(len(b))}
	return p, o.recognize(&p)
}

// ima is where the kernel has its lists.
const ima = "sys/kernel/security/ima"

const liveName = "the running kernel's list"

// live reads a list as a kernel shows it, the staged records first. It is copied
// at once: Linux 7.2 and later let nobody delete records while one reads.
func (o *opener) live(root fs.FS, name string) (part, error) {
	order, err := liveOrder(root, o.alg, name, 0)
	if err != nil {
		return part{}, err
	}
	p := part{name: name, form: imalog.Form{Options: imalog.ReaderOptions{ByteOrder: order, DigestSize: max(20, imalog.AlgSize(o.alg))}}}
	list := imalog.Live(root, &imalog.FollowOptions{Alg: o.alg, Reader: p.form.Options})
	defer list.Close()
	var b []byte
	for {
		rec, err := list.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			b, err = rec.AppendBinary(b)
		}
		if err != nil {
			return part{}, liveError(name, o.alg, err)
		}
	}
	p.data, p.size = bytes.NewReader(b), int64(len(b))
	return p, nil
}

// liveError says of an error of a kernel's list what helps.
func liveError(name string, alg uint16, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist) && alg != 0:
		return fmt.Errorf("%s: there is no binary_runtime_measurements_%s: leave -digest out (kernels have such files since Linux 6.10, for the TPM's banks)",
			name, imalog.AlgName(alg))
	case errors.Is(err, fs.ErrNotExist) && name == liveName:
		return fmt.Errorf("there is no /%s: mount securityfs, boot a kernel with CONFIG_IMA, or name a file (see imalist -h)", ima)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: no measurement list in this folder: name a file", name)
	case errors.Is(err, fs.ErrPermission) && name == liveName:
		return fmt.Errorf("only root may read %s", name)
	case errors.As(err, new(*readError)):
		return err
	}
	return located(name, err, 0, 0)
}

// under is a file system moved into a folder of another one.
type under struct {
	folder string
	fs.FS
}

func (u under) Open(name string) (fs.File, error) {
	if name == u.folder {
		return u.FS.Open(".")
	}
	rest, ok := strings.CutPrefix(name, u.folder+"/")
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return u.FS.Open(rest)
}
