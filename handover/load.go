package handover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/ledger"
	"github.com/imakexec/imakexec/kexecseg"
)

// Handover is a loaded kexec image with a buffer for the measurement list. Load
// or Resume makes one; Seal or Execute fills the buffer. Its methods may be
// called from several goroutines, one at a time does its work.
type Handover struct {
	opts   Options
	target kexecseg.Target // nil: the image cannot be planned again

	mu       sync.Mutex
	closed   bool
	image    *kexecseg.Image
	buffer   *kexecseg.Mapping
	ledger   *ledger.Ledger
	journal  *events.Journal // nil: no TPM
	state    state
	measurer *events.Measurer // nil: no TPM, no events

	kernelEvent bool   // the kernel adds a kexec_execute of its own to the list,
	kernelPCR   uint32 // of this PCR

	held     bool         // Quiesce.Suspend succeeded and Resume was not called since
	unlock   func() error // not nil: this one seals
	executed bool         // kexec_execute was measured for the present Seal
	sealed   bool         // the loaded image has the whole list
	carried  int          // records of the list that this one loaded last
}

// Status describes a handover.
type Status struct {
	Records int    // in the list to hand over, as far as it was read
	Size    uint64 // bytes of the list and its header
	Buffer  uint64 // bytes of the buffer
	Cut     int    // records left out, with Options.Truncate: such a list does not replay

	// Refused is the number of the kernel's records that the next kernel will not
	// restore, and RefusedReason a sentence for people: a template that
	// ima_template_fmt= has made is too long for it. Such a list will not replay.
	Refused       int
	RefusedReason string

	// Proof of the list as Load, or Seal after it, found it.
	Proof Proof
}

// Load plans an image with t, with a buffer for the measurement list in it, and
// loads it with kexec_load(2), the buffer still empty. It replaces a Handover
// that was loaded before in this boot.
//
// The list has to be there (ErrNoList). It need not replay to the PCR: one that
// was broken before, or that no kernel restores, is carried as it is and Status says
// so, unless Options.Strict. What the kernel refuses is a *kexecseg.RefusedError that says
// what would help.
//
// An error before kexec_load(2) leaves the image that was loaded before; one after
// it leaves none, if the kernel lets go of it: OpError.Loaded says. Where
// kernel.kexec_load_limit_reboot is set, Load, two loads in Seal and an Unload
// have to be left.
func Load(ctx context.Context, t kexecseg.Target, opts *Options) (*Handover, error) {
	o := opts.withDefaults()
	h := &Handover{opts: o, target: t}
	if step, err := h.load(ctx); err != nil {
		h.release()
		return nil, fail(o.System, "load", step, err)
	}
	return h, nil
}

func (h *Handover) load(ctx context.Context) (step string, err error) {
	if h.target == nil {
		return "target", errors.New("a target is needed to plan an image")
	}
	if step, err := h.start(ctx); err != nil {
		return step, err
	}
	proof := h.proof()
	if h.opts.Strict && !proof.Proved {
		return "prove list", fmt.Errorf("%w: %s", ErrNotProved, proof.Reason)
	}
	if refused, why := h.ledger.Kernel().Refused(); why != nil {
		if h.opts.Strict {
			return "prove list", fmt.Errorf("%w in the next kernel, which refuses %d records: %w", ErrNotProved, refused, why)
		}
		h.opts.Logger.Warn("the next kernel will refuse records: it cannot be attested", slog.Int("records", refused), slog.Any("error", why))
	}
	before := h.state
	h.state = state{BootID: before.BootID, ID: newID(), PCR: h.opts.PCR, Proved: proof.Proved}
	if err := enoughLoads(h.opts.System.FS()); err != nil {
		return "kexec_load", err
	}
	if err := h.plan(ctx); err != nil {
		return "plan", err
	}
	// From here on whoever seals an earlier load sees that it is replaced.
	if err := h.state.note(h.opts.StateDir); err != nil {
		return "save state", err
	}
	if err := h.opts.System.Load(h.image); err != nil {
		return "kexec_load", errors.Join(err, before.note(h.opts.StateDir))
	}
	// From here on the earlier image is gone: what fails must not leave this one,
	// which carries nothing.
	if step, err := h.loaded(ctx); err != nil {
		return step, errors.Join(err, h.opts.System.Unload(), removeState(h.opts.StateDir))
	}
	records, _ := h.ledger.Total()
	h.opts.Logger.Info("kexec image loaded", slog.Int("records", records),
		slog.Uint64("buffer", h.image.IMA.Size), slog.String("proof", h.proof().String()))
	return "", nil
}

// enoughLoads refuses to begin what the kernel would not let end: each load counts
// against the limit, and so does the unload
// (kernel/kexec_core.c: kexec_load_permitted).
func enoughLoads(fsys fs.FS) error {
	const need = 4
	left, limited := loadsLeft(fsys)
	if !limited || left >= need {
		return nil
	}
	return &kexecseg.RefusedError{Op: "kexec_load", Reason: kexecseg.ErrLoadLimit,
		Help: fmt.Sprintf("a handover needs %d loads and %d are left: only a reboot through the firmware resets it", need, left)}
}

// loadsLeft reads the limit; a kernel before 6.3 has none.
func loadsLeft(fsys fs.FS) (left int, limited bool) {
	b, err := fs.ReadFile(fsys, "proc/sys/kernel/kexec_load_limit_reboot")
	if err != nil {
		return 0, false
	}
	left, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return left, err == nil && left >= 0
}

// loaded is what Load does when the kernel has the image.
func (h *Handover) loaded(ctx context.Context) (step string, err error) {
	if err := h.settle(ctx); err != nil {
		return "read list", err
	}
	h.state.Figures = h.figures()
	if h.opts.EventsAtLoad && h.measurer != nil {
		if err := h.measure(ctx, events.KexecLoad, h.state.Figures); err != nil {
			return "measure kexec_load", err
		}
	}
	if err := h.save(); err != nil {
		return "save state", err
	}
	return "read list", h.ledger.Pause()
}

// Resume takes up, in another process, what Load began in this boot. With a
// persisted image t may be nil: then the buffer cannot grow. Without one t plans
// the image anew. Options are those of the new process; what was measured and
// proved at Load is remembered.
//
// When it fails the image of Load stays loaded: see OpError.Loaded and Unload.
func Resume(ctx context.Context, t kexecseg.Target, opts *Options) (*Handover, error) {
	o := opts.withDefaults()
	h := &Handover{opts: o, target: t}
	if step, err := h.takeUp(ctx); err != nil {
		h.release()
		return nil, fail(o.System, "resume", step, err)
	}
	return h, nil
}

func (h *Handover) takeUp(ctx context.Context) (step string, err error) {
	if step, err := h.start(ctx); err != nil {
		return step, err
	}
	if h.state.ID == "" {
		return "read state", ErrNothingLoaded
	}
	if h.state.PCR != h.opts.PCR {
		return "read state", fmt.Errorf("it was loaded for PCR %d, not %d", h.state.PCR, h.opts.PCR)
	}
	if err := h.vouch(); err != nil {
		return "prove list", err
	}
	if h.state.Image != nil {
		img, err := h.state.Image.load(h.opts.StateDir)
		if err != nil {
			return "read image", err
		}
		if err := h.adopt(img); err != nil {
			return "read image", err
		}
	} else if h.target == nil {
		return "plan", errors.New("the image was not persisted (Options.Persist), so a target is needed to plan it again")
	} else if err := h.plan(ctx); err != nil {
		return "plan", err
	}
	return "read list", h.ledger.Pause()
}

// start is what Load and Resume share: the list, with the journal, and the state.
func (h *Handover) start(ctx context.Context) (step string, err error) {
	fsys := h.opts.System.FS()
	boot, err := bootID(fsys)
	if err != nil {
		return "read state", err
	}
	if err := makeStateDir(h.opts.StateDir); err != nil {
		return "state directory", err
	}
	h.ledger, err = ledger.Open(ctx, ledger.Source{
		FS: fsys, PCR: h.opts.PCR, Hashes: h.opts.Hashes, TPM: h.opts.TPM,
		StateDir: h.opts.StateDir, BootID: boot,
	})
	if err != nil {
		return "read list", err
	}
	switch s, err := readState(h.opts.StateDir, boot); {
	case err == nil:
		h.state = *s
	case errors.Is(err, ErrNothingLoaded):
		h.state = state{BootID: boot}
	default:
		return "read state", err
	}
	switch h.opts.KernelEvent {
	case KernelEventAuto:
		h.kernelPCR, h.kernelEvent = kernelMeasures(fsys, h.ledger.Kernel(), h.opts.PCR)
	case KernelEventYes:
		h.kernelPCR, h.kernelEvent = h.opts.PCR, true
	}
	if h.opts.TPM == nil {
		return "", nil
	}
	return "open TPM", h.openMeasurer(ctx)
}

// openMeasurer prepares what measures the events, in the banks whose hash is
// known: another one replays no more from then on, and the rest do.
func (h *Handover) openMeasurer(ctx context.Context) error {
	allocated, err := (&events.Measurer{TPM: h.opts.TPM, PCR: h.opts.PCR}).Values(ctx)
	if err != nil {
		return err
	}
	var leaveOut []uint16
	for _, alg := range ledger.Banks(allocated) {
		if !ledger.HashKnown(alg, h.opts.Hashes) {
			leaveOut = append(leaveOut, alg)
			h.opts.Logger.Warn("a PCR bank is not extended, its hash is not known: see Options.Hashes", slog.Int("alg", int(alg)))
		}
	}
	if len(leaveOut) == len(allocated) {
		return nil
	}
	if h.journal, err = events.OpenJournal(h.opts.StateDir, &events.JournalOptions{BootID: h.state.BootID}); err != nil {
		return err
	}
	h.measurer = &events.Measurer{
		TPM: h.opts.TPM, PCR: h.opts.PCR, Journal: h.journal, Hashes: h.opts.Hashes, LeaveOut: leaveOut,
		Padded: h.ledger.Padded,
	}
	return nil
}

// plan has the target lay out an image whose buffer holds the list, the events
// to come and the extra room.
func (h *Handover) plan(ctx context.Context) error {
	if h.target == nil {
		return fmt.Errorf("%w of %d bytes, %d are needed: resume with a target, or allow truncation",
			ErrOutgrown, h.bufferSize(), h.needed())
	}
	fsys := h.opts.System.FS()
	memory, err := kexecseg.ReadMemoryMap(fsys)
	if err != nil {
		return err
	}
	size := h.needed() + h.opts.Extra
	if size < h.opts.Extra || size > ^uint64(0)-pageSize {
		return fmt.Errorf("no buffer holds %d bytes and %d extra", h.needed(), h.opts.Extra)
	}
	size = (size + pageSize - 1) &^ (pageSize - 1)
	img, err := h.target.Plan(ctx, &kexecseg.Request{Memory: memory, IMASize: size, Root: fsys})
	if err != nil {
		return err
	}
	if img.IMA.Size < size {
		return errors.Join(fmt.Errorf("the target's buffer has %d bytes, not the %d asked for", img.IMA.Size, size), img.Close())
	}
	return h.adopt(img)
}

// adopt makes img the image to load.
func (h *Handover) adopt(img *kexecseg.Image) error {
	buffer, err := img.Map(img.IMA)
	if err != nil {
		return errors.Join(fmt.Errorf("map the buffer: %w", err), img.Close())
	}
	if err := h.drop(); err != nil {
		h.opts.Logger.Warn("an image could not be released", slog.Any("error", err))
	}
	h.image, h.buffer = img, buffer
	h.ledger.NewBuffer()
	// Until Seal the buffer is a list of no records: whoever jumps before loses the
	// list, and is told so, instead of carrying a part of it.
	clear(buffer.Bytes())
	imalog.Header{Version: 1, Size: imalog.HeaderSize}.Put(buffer.Bytes())
	h.state.Image = nil // not saved yet
	return nil
}

// save writes what Resume needs.
func (h *Handover) save() error {
	if h.opts.Persist && h.state.Image == nil {
		img, err := saveImage(h.opts.StateDir, h.image)
		if err != nil {
			return err
		}
		h.state.Image = img
	}
	return h.state.write(h.opts.StateDir)
}

// Status says what the handover carries at present.
func (h *Handover) Status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	records, size := h.ledger.Total()
	s := Status{
		Records: records,
		Size:    size,
		Buffer:  h.bufferSize(),
		Cut:     h.ledger.Cut(),
		Proof:   h.proof(),
	}
	var why error
	if s.Refused, why = h.ledger.Kernel().Refused(); why != nil {
		s.RefusedReason = why.Error()
	}
	return s
}

// Unload drops the loaded image and forgets the handover. What was quiesced goes
// on. What user space has measured stays in the PCR, and in the journal until
// the next boot, so that ReadList still gives a list that replays. After an error
// of the kernel it can be called again; a handover that another Load replaced is
// given up without a system call (ErrClosed).
func (h *Handover) Unload() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	const op = "unload"
	if h.closed {
		return fail(h.opts.System, op, "state", ErrClosed)
	}
	if err := h.check(); errors.Is(err, errReplaced) {
		return fail(h.opts.System, op, "state", errors.Join(err, h.letGo(), h.release()))
	}
	if err := h.opts.System.Unload(); err != nil {
		return fail(h.opts.System, op, "kexec_load", err)
	}
	if err := errors.Join(removeState(h.opts.StateDir), h.letGo(), h.release()); err != nil {
		return fail(h.opts.System, op, "forget", err)
	}
	return nil
}

// Unload drops whatever Load loaded in this boot, for those who have no Handover:
// after a Resume that failed, say. Only System and StateDir of the options matter.
func Unload(opts *Options) error {
	o := opts.withDefaults()
	if err := errors.Join(o.System.Unload(), removeState(o.StateDir)); err != nil {
		return fail(o.System, "unload", "kexec_load", err)
	}
	return nil
}

// Close releases what this process holds. The image stays loaded and another
// process may Resume. What a successful Seal quiesced stays so, for the jump to
// come: Unload is the way back.
func (h *Handover) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	return h.release()
}

// errReplaced is an ErrClosed for which there is another image to be careful of.
var errReplaced = fmt.Errorf("%w: another load replaced it", ErrClosed)

// check refuses a handover that is over, and takes over what another process has
// noted of it.
func (h *Handover) check() error {
	if h.closed {
		return ErrClosed
	}
	now, err := readState(h.opts.StateDir, h.state.BootID)
	if errors.Is(err, ErrNothingLoaded) {
		return fmt.Errorf("%w: it was unloaded, or %s is gone", ErrClosed, h.opts.StateDir)
	}
	if err != nil {
		return err
	}
	if now.ID != h.state.ID {
		return errReplaced
	}
	h.state.LoadMeasured = now.LoadMeasured
	return nil
}

// letGo lets what Seal quiesced go on.
func (h *Handover) letGo() error {
	if !h.held {
		return nil
	}
	h.held = false
	return h.opts.Quiesce.Resume()
}

// drop gives up the planned image.
func (h *Handover) drop() error {
	var errs []error
	if h.buffer != nil {
		errs = append(errs, h.buffer.Unmap())
	}
	if h.image != nil {
		errs = append(errs, h.image.Close())
	}
	h.image, h.buffer = nil, nil
	return errors.Join(errs...)
}

// release gives up everything in this process.
func (h *Handover) release() error {
	h.closed = true
	errs := []error{h.drop(), h.endSeal()}
	if h.ledger != nil {
		errs = append(errs, h.ledger.Close())
	}
	if h.journal != nil {
		errs = append(errs, h.journal.Close())
	}
	return errors.Join(errs...)
}

func (h *Handover) bufferSize() uint64 {
	if h.image == nil {
		return 0
	}
	return h.image.IMA.Size
}

const pageSize = 4096
