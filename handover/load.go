package handover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
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
	held     bool // Quiesce.Suspend succeeded and Resume was not called since
	sealed   bool // both events are measured and the loaded image is complete
	image    *kexecseg.Image
	buffer   *kexecseg.Mapping
	ledger   *ledger
	journal  *events.Journal
	state    state
	measurer *events.Measurer // nil: no TPM, no events

	kernelEvent bool // the kernel adds a kexec_execute of its own to the list
}

// Status describes a handover.
type Status struct {
	Records int    // in the list to hand over, as far as it was read
	Size    uint64 // bytes of the list and its header
	Buffer  uint64 // bytes of the buffer
	Cut     int    // records left out, with Options.Truncate

	// Proof of the list; it is as Load found it until Seal looks again.
	Proof Proof
}

// Load plans an image with t, with a buffer for the measurement list in it, and
// loads it with kexec_load(2), the buffer still empty. It replaces a Handover
// that was loaded before in this boot.
//
// The list has to be there (ErrNoList). It need not replay to the PCR: one that
// was broken before is carried as it is and Status says so, unless
// Options.Strict. What the kernel refuses is a *kexecseg.RefusedError that says
// what would help. After any error the machine is as before.
func Load(ctx context.Context, t kexecseg.Target, opts *Options) (_ *Handover, err error) {
	h, step, err := load(ctx, t, opts.withDefaults())
	if err != nil {
		return nil, &OpError{Op: "load", Step: step, Err: err}
	}
	return h, nil
}

func load(ctx context.Context, t kexecseg.Target, opts Options) (_ *Handover, step string, err error) {
	if t == nil {
		return nil, "target", errors.New("a target is needed to plan an image")
	}
	h := &Handover{opts: opts, target: t}
	defer func() {
		if err != nil {
			h.release()
		}
	}()
	if step, err = h.open(ctx); err != nil {
		return nil, step, err
	}
	if opts.Strict && !h.ledger.proof.Proved {
		return nil, "prove list", fmt.Errorf("%w: %s", ErrNotProved, h.ledger.proof.Reason)
	}
	h.state = state{BootID: h.state.BootID, ID: newID(), Proved: h.ledger.proof.Proved, Since: h.ledger.proof.Since}
	if err = h.plan(ctx); err != nil {
		return nil, "plan", err
	}
	if err = opts.System.Load(h.image); err != nil {
		return nil, "kexec_load", err
	}
	// From here on the earlier image is gone: what fails must not leave this one,
	// which carries nothing.
	defer func() {
		if err != nil {
			err = errors.Join(err, opts.System.Unload(), removeState(opts.StateDir))
		}
	}()
	if err = h.settle(ctx); err != nil {
		return nil, "read list", err
	}
	h.state.Figures = h.figures()
	if opts.EventsAtLoad && h.measurer != nil {
		if err = h.measure(ctx, events.KexecLoad, h.state.Figures); err != nil {
			return nil, "measure kexec_load", err
		}
		h.state.LoadMeasured = true
	}
	if err = h.save(); err != nil {
		return nil, "save state", err
	}
	if err = h.ledger.pause(); err != nil {
		return nil, "read list", err
	}
	opts.Logger.Info("kexec image loaded", slog.Int("records", h.ledger.records),
		slog.Uint64("buffer", h.image.IMA.Size), slog.String("proof", h.ledger.proof.String()))
	return h, "", nil
}

// Resume takes up, in another process, what Load began in this boot. With a
// persisted image t may be nil: then the buffer cannot grow. Without one t plans
// the image anew. Options are those of the new process; what was measured and
// proved at Load is remembered.
func Resume(ctx context.Context, t kexecseg.Target, opts *Options) (*Handover, error) {
	h, step, err := resume(ctx, t, opts.withDefaults())
	if err != nil {
		return nil, &OpError{Op: "resume", Step: step, Err: err}
	}
	return h, nil
}

func resume(ctx context.Context, t kexecseg.Target, opts Options) (_ *Handover, step string, err error) {
	h := &Handover{opts: opts, target: t}
	defer func() {
		if err != nil {
			h.release()
		}
	}()
	if step, err = h.open(ctx); err != nil {
		return nil, step, err
	}
	if h.state.ID == "" {
		return nil, "read state", ErrNothingLoaded
	}
	if h.state.Proved && !h.ledger.proof.Proved && !opts.Unproved {
		return nil, "prove list", fmt.Errorf("%w, and did at load: %s", ErrNotProved, h.ledger.proof.Reason)
	}
	if step, err = h.restore(ctx); err != nil {
		return nil, step, err
	}
	if err = h.ledger.pause(); err != nil {
		return nil, "read list", err
	}
	return h, "", nil
}

// restore takes the persisted image, or plans it again.
func (h *Handover) restore(ctx context.Context) (step string, err error) {
	if h.state.Image != nil {
		img, err := h.state.Image.load(h.opts.StateDir)
		if err != nil {
			return "read image", err
		}
		return "map image", h.adopt(img)
	}
	if h.target == nil {
		return "plan", errors.New("the image was not persisted (Options.Persist), so a target is needed to plan it again")
	}
	return "plan", h.plan(ctx)
}

// open is what Load and Resume share: the journal, the list, the last state.
func (h *Handover) open(ctx context.Context) (step string, err error) {
	fsys := h.opts.System.FS()
	boot, err := bootID(fsys)
	if err != nil {
		return "read state", err
	}
	if err := makeStateDir(h.opts.StateDir); err != nil {
		return "state directory", err
	}
	switch s, err := readState(h.opts.StateDir, boot); {
	case err == nil:
		h.state = *s
	case errors.Is(err, ErrNothingLoaded):
		h.state = state{BootID: boot}
	default:
		return "read state", err
	}
	h.journal, err = events.OpenJournal(h.opts.StateDir, &events.JournalOptions{BootID: boot, ReadOnly: h.opts.TPM == nil})
	if err != nil {
		return "open journal", err
	}
	h.ledger, err = openLedger(ctx, fsys, h.opts.PCR, readerOf(h.opts.TPM, fsys, h.opts.PCR), h.journal.Entries())
	if err != nil {
		return "read list", err
	}
	h.kernelEvent = h.opts.KernelEvent == KernelEventYes ||
		h.opts.KernelEvent == KernelEventAuto && kernelMeasures(fsys, h.ledger)
	if h.opts.TPM != nil {
		h.measurer = &events.Measurer{TPM: h.opts.TPM, PCR: h.opts.PCR, Journal: h.journal, Padded: h.ledger.padded}
	}
	return "", nil
}

// plan has the target lay out an image whose buffer holds the list, the events
// to come and the extra room.
func (h *Handover) plan(ctx context.Context) error {
	if h.target == nil {
		return fmt.Errorf("%w of %d bytes: %d are needed; resume with a target, or allow truncation",
			ErrOutgrown, h.bufferSize(), h.needed())
	}
	fsys := h.opts.System.FS()
	memory, err := kexecseg.ReadMemoryMap(fsys)
	if err != nil {
		return err
	}
	size := (h.needed() + h.opts.Extra + pageSize - 1) &^ (pageSize - 1)
	img, err := h.target.Plan(ctx, &kexecseg.Request{Memory: memory, IMASize: size, Root: fsys})
	if err != nil {
		return err
	}
	if img.IMA.Size < size {
		img.Close()
		return fmt.Errorf("the target's buffer has %d bytes, not the %d asked for", img.IMA.Size, size)
	}
	return h.adopt(img)
}

// adopt makes img the image to load.
func (h *Handover) adopt(img *kexecseg.Image) error {
	buffer, err := img.Map(img.IMA)
	if err != nil {
		img.Close()
		return fmt.Errorf("map the buffer: %w", err)
	}
	h.drop()
	h.image, h.buffer = img, buffer
	h.ledger.filled = 0
	// Until Seal the buffer is a list of no records: whoever jumps before loses the
	// list, and is told so, instead of carrying a part of it.
	clear(buffer.Bytes())
	imalog.Header{Version: 1, Size: imalog.HeaderSize}.Put(buffer.Bytes())
	return nil
}

// save writes what Resume needs.
func (h *Handover) save() error {
	if h.opts.Persist {
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
	return Status{
		Records: h.ledger.records,
		Size:    imalog.HeaderSize + uint64(len(h.ledger.body)),
		Buffer:  h.bufferSize(),
		Cut:     h.ledger.cut,
		Proof:   h.ledger.proof,
	}
}

// Unload drops the loaded image and forgets the handover. What was quiesced goes
// on. What user space has measured stays in the PCR, and in the journal until
// the next boot, so that ReadList still gives a list that replays.
func (h *Handover) Unload() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.check(); err != nil {
		return &OpError{Op: "unload", Step: "state", Err: err}
	}
	err := errors.Join(h.opts.System.Unload(), removeState(h.opts.StateDir), h.resume(), h.release())
	if err != nil {
		return &OpError{Op: "unload", Step: "unload", Loaded: isLoaded(h.opts.System.FS()), Err: err}
	}
	return nil
}

// Close releases what this process holds. The image stays loaded, what a
// successful Seal quiesced stays so, and another process may Resume.
func (h *Handover) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	return h.release()
}

// check refuses a handover that is closed, or that another Load replaced.
func (h *Handover) check() error {
	if h.closed {
		return ErrClosed
	}
	now, err := readState(h.opts.StateDir, h.state.BootID)
	if errors.Is(err, ErrNothingLoaded) || err == nil && now.ID != h.state.ID {
		return fmt.Errorf("%w: it was unloaded or replaced by another load", ErrClosed)
	}
	return err
}

// resume lets go what Seal quiesced.
func (h *Handover) resume() error {
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
	errs := []error{h.drop()}
	if h.ledger != nil {
		errs = append(errs, h.ledger.close())
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

// isLoaded asks the kernel whether it would kexec; when it does not say, the
// careful answer is yes.
func isLoaded(fsys fs.FS) bool {
	loaded, err := kexecseg.Loaded(fsys)
	return loaded || err != nil
}

const pageSize = 4096
