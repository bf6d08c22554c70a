package handover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
)

// Seal does everything but the jump: it quiesces, tries once everything that
// can fail, measures kexec_load (unless Load did) and kexec_execute, fills the
// buffer with the whole list and loads the image again, until nothing was
// measured meanwhile. The list was then replayed against the PCR in every bank.
//
// After success the machine is as good as rebooted: what was quiesced stays so,
// and whoever does the jump (u-root's own reboot, systemd) should do it at once.
// Calling Seal again brings a sealed image up to date. After an error the
// machine runs on, everything is let go, and OpError.Loaded says whether an image
// is still loaded that lacks records.
func (h *Handover) Seal(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seal(ctx, "seal")
}

// Execute is Seal and the jump. On a real machine it returns only on failure.
func (h *Handover) Execute(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.seal(ctx, "execute"); err != nil {
		return err
	}
	h.opts.Logger.Info("kexec", slog.Int("records", h.ledger.records), slog.String("proof", h.ledger.proof.String()))
	if err := h.opts.System.Kexec(); err != nil {
		return h.failed("execute", "kexec", err)
	}
	return nil
}

func (h *Handover) seal(ctx context.Context, op string) error {
	if err := h.check(); err != nil {
		return &OpError{Op: op, Step: "state", Err: err}
	}
	if err := h.journal.Reload(); err != nil { // another process may have measured
		return &OpError{Op: op, Step: "read journal", Loaded: isLoaded(h.opts.System.FS()), Err: err}
	}
	h.ledger.take(h.journal.Entries())
	if !h.held {
		if err := h.opts.Quiesce.Suspend(ctx); err != nil {
			return h.failed(op, "quiesce", err)
		}
		h.held = true
	}
	if !h.sealed {
		// The events are in the PCR at once and in a kernel's list only after the
		// jump, so all that can fail is tried before they are measured.
		if err := h.carry(ctx); err != nil {
			return h.failed(op, "rehearse", err)
		}
		if err := h.announce(ctx); err != nil {
			return h.failed(op, "measure events", err)
		}
	}
	if err := h.carry(ctx); err != nil {
		return h.failed(op, "load", err)
	}
	h.sealed = true
	return nil
}

// failed lets the machine go on.
func (h *Handover) failed(op, step string, err error) error {
	h.sealed = false
	err = errors.Join(err, h.ledger.pause())
	if rerr := h.resume(); rerr != nil {
		err = errors.Join(err, fmt.Errorf("resume what was quiesced: %w", rerr))
	}
	return &OpError{Op: op, Step: step, Loaded: isLoaded(h.opts.System.FS()), Err: err}
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
		h.state.LoadMeasured = true
		if err := h.state.write(h.opts.StateDir); err != nil {
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
	rec, err := events.NewRecord(name, payload, &events.RecordOptions{PCR: h.opts.PCR, Alg: h.ledger.alg})
	if err != nil {
		return err
	}
	_, err = h.measurer.Measure(ctx, &rec, h.ledger.kernel)
	h.ledger.take(h.journal.Entries())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return h.settle(ctx)
}

// carry fills the buffer and loads the image, again and again until nothing was
// measured between the reading of the list and the end of the load.
func (h *Handover) carry(ctx context.Context) error {
	for range h.opts.Rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
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
		var last []imalog.Record
		if h.kernelEvent {
			rec, err := h.kernelExecute()
			if err != nil {
				return err
			}
			last = append(last, rec)
		}
		if err := h.ledger.fill(h.buffer.Bytes(), last...); err != nil {
			return err
		}
		if err := h.opts.System.Load(h.image); err != nil {
			return err
		}
		loaded := h.ledger.records
		if err := h.settle(ctx); err != nil {
			return err
		}
		if h.ledger.records == loaded && h.ledger.pending() == 0 {
			return nil
		}
		h.opts.Logger.Info("records were measured during the load, loading again", slog.Int("records", h.ledger.records-loaded))
	}
	return fmt.Errorf("%w, %d times: stop what measures with Options.Quiesce", ErrGrowing, h.opts.Rounds)
}

// settle brings the ledger up to date. A list that no longer replays ends the
// handover only when it did at Load.
func (h *Handover) settle(ctx context.Context) error {
	err := h.ledger.settle(ctx)
	if errors.Is(err, ErrNotProved) {
		h.opts.Logger.Warn("the list does not replay to the PCR", slog.Any("error", err))
		err = h.ledger.settle(ctx) // adrift now: takes the records as they come
	}
	if err == nil && h.state.Proved && !h.ledger.proof.Proved && !h.opts.Unproved {
		err = fmt.Errorf("%w, and did at load: %s", ErrNotProved, h.ledger.proof.Reason)
	}
	return err
}

// figures are those of the kernel's events: of the buffer, and of the list
// before the record that carries them.
func (h *Handover) figures() events.Figures {
	return events.Figures{
		SegmentSize: h.bufferSize(),
		ListSize:    imalog.HeaderSize + uint64(len(h.ledger.body)),
		Count:       uint64(h.ledger.records),
	}
}

// needed is the size of the list and its header, with room for the events that
// are still to be measured.
func (h *Handover) needed() uint64 {
	n := imalog.HeaderSize + uint64(len(h.ledger.body))
	if h.measurer != nil && !h.sealed {
		n += 2 * maxEventSize
	}
	if h.kernelEvent {
		n += maxEventSize
	}
	return n
}

// maxEventSize bounds a kexec_load or kexec_execute record in the list: three
// 20-digit figures in a payload with their names, a SHA-512 d-ng, and lengths.
const maxEventSize = 384
