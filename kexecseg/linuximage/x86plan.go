package linuximage

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/imakexec/imakexec/kexecseg"
	"github.com/imakexec/imakexec/kexecseg/purgatory"
)

const (
	lowMemory = 1 << 20 // below it the next kernel has its trampoline and the BIOS its data
	seedSize  = 32      // RNG_SEED_LENGTH
)

// x86Plan is what one Plan for x86-64 works on. The segments it makes are the
// kernel; the initrd; the SETUP_IMA node, whose first page is its header and
// payload and whose other pages are the buffer; and the parameters: boot_params,
// the trampoline, the command line, the other setup_data nodes; and the purgatory.
type x86Plan struct {
	kernel    *bzImage
	initrd    source
	cmdline   string
	purgatory bool
	indirect  bool
	imaSize   uint64
	memory    kexecseg.MemoryMap
	machine   *machine
}

func (p *x86Plan) image(ctx context.Context, planner *kexecseg.Planner) (*kexecseg.Image, error) {
	if err := checkCmdline(p.cmdline, p.kernel.cmdline); err != nil {
		return nil, err
	}
	nodes, err := p.nodes()
	if err != nil {
		return nil, err
	}
	params := p.params(nodes)
	kernel := p.kernel.part()
	var initrd, ima, check *part
	if size := p.initrd.size; size > 0 {
		initrd = p.part("initrd", size)
		initrd.fill = func(buf []byte) error { return p.initrd.read(buf, 0) }
	}
	if p.imaSize > 0 {
		if ima, err = p.imaPart(); err != nil {
			return nil, err
		}
	}
	if p.purgatory {
		check = p.part("purgatory", purgatory.Size())
	}
	img := &kexecseg.Image{Flags: kexecseg.ArchX86_64}
	img.Segments, err = assemble(ctx, planner, kernel, initrd, ima, params, check)
	if initrd.hasNoPlace(err) && p.kernel.above4G {
		// initrd_addr_max is for boot loaders that know no other place.
		initrd.Max = 0
		img.Segments, err = assemble(ctx, planner, kernel, initrd, ima, params, check)
	}
	if err != nil {
		return nil, err
	}

	w := paramsWriter{bootParams(params.Buf[:bootParamsSize]), params.Buf[bootParamsSize:], params.Phys.Start + bootParamsSize}
	w.setHeader(p.kernel.header)
	w.setMachine(p.machine)
	w.setE820(e820Table(p.memory))
	if initrd != nil {
		w.setInitrd(initrd.Phys.Start, initrd.bytes)
	}
	img.Entry = w.put(trampoline(params.Phys.Start, kernel.Phys.Start+entry64), trampolineSize)
	w.setCmdline(w.put([]byte(p.cmdline), cmdlineSize(p.cmdline)))
	if ima != nil {
		img.IMA = kexecseg.Range{Start: ima.Phys.Start + pageSize, Size: ima.bytes - pageSize}
		if p.indirect {
			putIMANode(ima.Buf[:imaNodeSize], img.IMA)
		} else {
			putIMANode(ima.Buf, img.IMA)
		}
		w.setSetupData(ima.Phys.Start)
		if p.indirect {
			w.putNode(indirectNode(img.IMA))
		}
	}
	for _, n := range nodes {
		at := w.putNode(n)
		if n.kind == setupEFI {
			w.setEFI(p.machine.efi, at)
		}
	}
	if check != nil {
		if err := p.setPurgatory(img, check, params.Phys.Start, kernel.Phys.Start+entry64); err != nil {
			return nil, err
		}
	}
	return img, img.Check()
}

// setPurgatory makes the purgatory the image's entry, in the place of the
// trampoline. Everything else must be written before.
func (p *x86Plan) setPurgatory(img *kexecseg.Image, part *part, params, entry uint64) error {
	exclude := []kexecseg.Range{part.Phys, img.IMA}
	regions, err := img.SHARegions(exclude...)
	if err != nil {
		return err
	}
	digest, err := img.Digest(exclude...)
	if err != nil {
		return err
	}
	code, err := purgatory.Code(part.Phys.Start, &purgatory.Params{
		Entry: entry, Argument: params, Regions: regions, Digest: digest, Port: serialPort(p.cmdline),
	})
	copy(part.Buf, code)
	img.Entry = part.Phys.Start
	return err
}

// serialPort returns the I/O address of the last serial port that the command line
// has for a console; without one that of the first.
func serialPort(cmdline string) uint16 {
	port := uint16(purgatory.COM1)
	for _, arg := range strings.Fields(cmdline) {
		if name, ok := strings.CutPrefix(arg, "console=ttyS"); ok {
			number, _, _ := strings.Cut(name, ",")
			switch number {
			case "0":
				port = purgatory.COM1
			case "1":
				port = 0x2f8
			case "2":
				port = 0x3e8
			case "3":
				port = 0x2e8
			}
		}
	}
	return port
}

// part is one that lies where every kernel of this protocol finds it.
func (p *x86Plan) part(name string, size uint64) *part {
	return &part{
		Piece: kexecseg.Piece{Name: name, Size: size, Min: lowMemory, Max: p.kernel.initrdMax + 1},
		bytes: size,
	}
}

// part is the protected-mode code with the room in which it unpacks itself.
func (b *bzImage) part() *part {
	piece := kexecseg.Piece{Name: "kernel", Size: b.initSize, Align: b.align, Min: b.pref, Low: true}
	if !b.above4G {
		piece.Max = 1 << 32
	}
	if b.fixed {
		piece.Max = b.pref + roundUp(b.initSize, pageSize)
	}
	return &part{Piece: piece, bytes: b.size - b.setup, fill: func(buf []byte) error { return b.read(buf, b.setup) }}
}

// imaPart is the SETUP_IMA node with the buffer in it.
func (p *x86Plan) imaPart() (*part, error) {
	const most = uint64(1 << 31) // the node's len has 32 bits
	if p.imaSize > most {
		return nil, fmt.Errorf("linuximage: an IMA buffer of %d bytes is more than a setup_data node holds, %d", p.imaSize, most)
	}
	return p.part("IMA buffer", pageSize+roundUp(p.imaSize, pageSize)), nil
}

func (p *x86Plan) params(nodes []setupNode) *part {
	size := bootParamsSize + trampolineSize + cmdlineSize(p.cmdline)
	for _, n := range nodes {
		size += n.size()
	}
	if p.indirect && p.imaSize > 0 {
		size += indirectNode(kexecseg.Range{}).size()
	}
	return p.part("boot parameters", size)
}

func cmdlineSize(s string) uint64 { return roundUp(uint64(len(s))+1, 8) }

// nodes returns the setup_data nodes that hold their payload. Those of the running
// kernel are not passed on: they describe its own boot.
func (p *x86Plan) nodes() ([]setupNode, error) {
	seed := make([]byte, seedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, fmt.Errorf("linuximage: seed: %w", err)
	}
	nodes := []setupNode{{setupRNGSeed, seed}}
	if p.machine.efi != nil {
		nodes = append(nodes, setupNode{setupEFI, p.machine.efi.node()})
	}
	if table := e820Table(p.memory); len(table) > e820Max*e820Size {
		nodes = append(nodes, setupNode{setupE820Ext, table[e820Max*e820Size:]})
	}
	return nodes, nil
}

// paramsWriter fills the segment of the parameters.
type paramsWriter struct {
	bootParams
	rest []byte // not written yet
	at   uint64 // its physical address
}

// put writes b into the next size bytes and returns their physical address.
func (w *paramsWriter) put(b []byte, size uint64) uint64 {
	copy(w.rest[:size], b)
	at := w.at
	w.rest, w.at = w.rest[size:], w.at+size
	return at
}

// putNode writes a setup_data node and puts it first in the list.
func (w *paramsWriter) putNode(n setupNode) uint64 {
	b := appendSetupHeader(nil, w.setupData(), n.kind, uint32(len(n.payload)))
	at := w.put(append(b, n.payload...), n.size())
	w.setSetupData(at)
	return at
}
