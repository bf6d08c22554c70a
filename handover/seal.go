package handover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/ledger"
	"github.com/imakexec/imakexec/kexecseg"
)

// Seal does everything but the jump: it quiesces, tries once everything that
// can fail, measures kexec_load (unless Load did) and kexec_execute, fills the
// buffer with the whole list and loads the image again, until nothing was
// measured meanwhile. The list was then replayed against the PCR in every bank.
//
// After success the machine is as good as rebooted: what was quiesced stays so,
// and whoever does the jump (u-root's own reboot, systemd) should do it at once.
// Calling Seal again brings a sealed image up to date. After an error the
// machine runs on, everything is let go, Seal can be called again, and
// OpError.Loaded says whether an image is loaded that may lack records. None is where
// there was memory for one image only, the earlier one was unloaded to make room, and
// the load then failed.
//
// A context that ends stops it until the events are measured, and no more then.
func (h *Handover) Seal(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seal(ctx, "seal")
}

// Execute is Seal and the jump, reboot(2). On a real machine it returns only on
// failure. It syncs and unmounts nothing: that is the caller's, before.
func (h *Handover) Execute(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	const op = "execute"
	if err := kexecseg.CheckReboot(h.opts.System.FS()); err != nil {
		return h.failed(op, "kexec", err) // before anything is measured
	}
	if err := h.seal(ctx, op); err != nil {
		return err
	}
	h.opts.Logger.Info("kexec", slog.String("proof", h.proof().String()))
	if err := h.opts.System.Kexec(); err != nil {
		return h.failed(op, "kexec", err)
	}
	return nil
}

func (h *Handover) seal(ctx context.Context, op string) error {
	if err := h.check(); err != nil {
		return h.failed(op, "state", err)
	}
	if err := h.startSeal(ctx); err != nil {
		return h.failed(op, "quiesce", err)
	}
	if h.sealed {
		ctx = context.WithoutCancel(ctx) // the events are measured
	} else {
		// The events are in the PCR at once and in a kernel's list only after the
		// jump, so all that can fail is tried before they are measured.
		if err := h.carry(ctx); err != nil {
			return h.failed(op, "rehearse", err)
		}
		if err := ctx.Err(); err != nil {
			return h.failed(op, "rehearse", err)
		}
		ctx = context.WithoutCancel(ctx)
		if err := h.announce(ctx); err != nil {
			return h.failed(op, "measure events", err)
		}
	}
	if err := h.carry(ctx); err != nil {
		return h.failed(op, "load", err)
	}
	if err := h.check(); err != nil { // of another Load, whose image is there now
		return h.failed(op, "state", err)
	}
	h.sealed = true
	if err := h.ledger.Pause(); err != nil {
		return h.failed(op, "load", err)
	}
	return nil
}

// startSeal keeps other Handovers from sealing, and what measures from measuring.
func (h *Handover) startSeal(ctx context.Context) error {
	if h.unlock == nil {
		unlock, err := lock(h.opts.StateDir, h.state.BootID)
		if err != nil {
			return err
		}
		h.unlock = unlock
	}
	if !h.held {
		if err := h.opts.Quiesce.Suspend(ctx); err != nil {
			return err
		}
		h.held = true
	}
	return nil
}

// endSeal lets other Handovers seal.
func (h *Handover) endSeal() error {
	if h.unlock == nil {
		return nil
	}
	unlock := h.unlock
	h.unlock = nil
	return unlock()
}

// failed lets the machine go on.
func (h *Handover) failed(op, step string, err error) error {
	h.sealed, h.executed = false, false
	if h.closed {
		return fail(h.opts.System, op, step, err)
	}
	return fail(h.opts.System, op, step, errors.Join(err, h.letGo(), h.endSeal(), h.ledger.Pause()))
}

// announce measures the events that are still to come.
func (h *Handover) announce(ctx context.Context) error {
	if h.measurer == nil {
		return nil
	}
	if !h.state.LoadMeasured {
		if err := h.measure(ctx, events.KexecLoad, h.state.Figures); err != nil {
			return err
		}
	}
	if h.kernelEvent {
		return nil // the kernel measures its own
	}
	return h.measure(ctx, events.KexecExecute, h.figures())
}

// measure extends one event into the PCR and finds its place in the list.
func (h *Handover) measure(ctx context.Context, name string, figures events.Figures) error {
	payload, err := figures.AppendText(nil)
	if err != nil {
		return err
	}
	alg := h.ledger.Kernel().Alg
	if !ledger.HashKnown(alg, nil) {
		alg = imalog.AlgSHA256
	}
	rec, err := events.NewRecord(name, payload, &events.RecordOptions{PCR: h.opts.PCR, Alg: alg})
	if err != nil {
		return err
	}
	if _, err := h.measurer.Measure(ctx, &rec, h.ledger.Kernel().Records); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if name == events.KexecExecute {
		h.executed = true
	} else {
		if err := h.check(); err != nil {
			return err
		}
		h.state.LoadMeasured = true
		if err := h.state.write(h.opts.StateDir); err != nil {
			return err
		}
	}
	return h.settle(ctx)
}

// carry fills the buffer and loads the image, again and again until nothing was
// measured between the reading of the list and the end of the load, and no record of
// user space turned out to belong elsewhere than it was put.
func (h *Handover) carry(ctx context.Context) error {
	for range h.opts.Rounds {
		if err := h.settle(ctx); err != nil {
			return err
		}
		if h.needed() > h.bufferSize() && !h.opts.Truncate {
			if err := h.plan(ctx); err != nil {
				return fmt.Errorf("plan a larger buffer: %w", err)
			}
			if err := h.save(); err != nil {
				return fmt.Errorf("save state: %w", err)
			}
		}
		if err := h.fill(); err != nil {
			return err
		}
		loaded, _ := h.ledger.Total()
		placed := h.ledger.Placed()
		if err := h.reload(loaded); err != nil {
			return err
		}
		h.carried = loaded
		if err := h.settle(ctx); err != nil {
			return err
		}
		if h.ledger.Pending() > 0 { // listed, and the extend was under way
			if err := h.settle(ctx); err != nil {
				return err
			}
		}
		now, _ := h.ledger.Total()
		if now == loaded && h.ledger.Pending() == 0 && h.ledger.Placed() == placed {
			return nil
		}
		h.carried = 0
		h.opts.Logger.Info("records were measured during the load, loading again", slog.Int("records", now-loaded))
	}
	return fmt.Errorf("%w, %d times: stop what measures with Options.Quiesce", ErrGrowing, h.opts.Rounds)
}

// reload loads the image, with so many records, in the place of the one that is loaded.
// Where there is no memory for both, that one stays if it has the same list already, and
// otherwise goes first: it lacks records, so a jump into it is no loss.
func (h *Handover) reload(records int) error {
	sys := h.opts.System
	err := sys.Load(h.image)
	if !errors.Is(err, kexecseg.ErrNoMemory) {
		return err
	}
	if loaded, lerr := kexecseg.Loaded(sys.FS()); lerr == nil && loaded && records == h.carried {
		return nil
	}
	// This unload and load, those of the events' image, and one that drops it.
	const need = 5
	if left, limited := loadsLeft(sys.FS()); limited && left < need {
		return err
	}
	h.opts.Logger.Info("no memory for a second image, unloading the first", slog.Any("error", err))
	if failed := sys.Unload(); failed != nil {
		return errors.Join(err, failed)
	}
	if err := sys.Load(h.image); err != nil {
		return fmt.Errorf("%w (the image that was loaded before is unloaded already)", err)
	}
	return nil
}

// fill writes the list, and the record that the kernel will add, into the buffer.
func (h *Handover) fill() error {
	var last []imalog.Record
	if h.kernelEvent {
		rec, err := h.kernelExecute()
		if err != nil {
			return fmt.Errorf("foresee the kernel's kexec_execute (Options.KernelEvent): %w", err)
		}
		last = append(last, rec)
	}
	return h.ledger.Fill(h.buffer.Bytes(), h.opts.Truncate, last...)
}

// settle brings the ledger up to date and asks whether it may be handed over.
func (h *Handover) settle(ctx context.Context) error {
	if err := h.ledger.Settle(ctx); err != nil {
		return err
	}
	return h.vouch()
}

// vouch refuses a list that does not replay any more and did at Load.
func (h *Handover) vouch() error {
	proof := h.proof()
	if proof.Proved || len(proof.Banks) == 0 && !h.state.Proved {
		return nil
	}
	if h.state.Proved && !h.opts.AllowUnproved {
		return fmt.Errorf("%w, and did at load: %s", ErrNotProved, proof.Reason)
	}
	h.opts.Logger.Warn("the list does not replay to the PCR and is carried as it is", slog.String("reason", proof.Reason))
	return nil
}

// proof is what the PCR says of the list, all of it.
func (h *Handover) proof() Proof { return Proof(h.ledger.Status()) }

// figures are those of the kernel's events: of the buffer, and of the list
// before the record that carries them.
func (h *Handover) figures() events.Figures {
	records, size := h.ledger.Counted()
	return events.Figures{
		SegmentSize: h.bufferSize(),
		ListSize:    size,
		Count:       uint64(records),
	}
}

// needed is the size of the list and its header, with room for the events that
// are still to come.
func (h *Handover) needed() uint64 {
	coming := 0
	if h.kernelEvent {
		coming++
	} else if h.measurer != nil && !h.executed {
		coming++
	}
	if h.measurer != nil && !h.state.LoadMeasured {
		coming++
	}
	return h.ledger.FillSize() + uint64(coming)*maxEventSize
}

// maxEventSize bounds a kexec_load or kexec_execute record in the list: three
// 20-digit figures in a payload with their names, a SHA-512 d-ng, and lengths.
const maxEventSize = 384
