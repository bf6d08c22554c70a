package handover

import (
	"context"
	"hash"
	"log/slog"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/imalog"
)

// Options tune Load and Resume. The zero value is right for most callers that
// have no TPM open; those that have one set TPM.
type Options struct {
	// TPM measures the two events and reads the PCRs. Without it the list is
	// carried all the same, has no events, and is proved against the PCRs that
	// the kernel shows under /sys/class/tpm/tpm0.
	TPM transport.TPM

	// PCR that IMA extends; 0 means 10.
	PCR uint32

	// StateDir keeps the journal of what user space measured and what Resume
	// needs; "" means /run/imakexec. It must survive until the jump and should
	// not survive a boot: a tmpfs.
	StateDir string

	// Persist keeps the planned image in StateDir, so that another process can
	// Seal when the kernel's file is no longer there. It takes as much room as
	// kernel and initrd.
	Persist bool

	// Extra is room in the buffer for what is measured between Load and Execute,
	// in bytes; 0 means half a page (2048). When it does not suffice, Execute
	// plans again, so it saves time and decides nothing.
	Extra uint64

	// Truncate makes Seal cut a list that outgrew its buffer, to as many whole
	// records as fit beside the two events, instead of planning a larger one. A
	// list that was cut does not replay.
	Truncate bool

	// Hashes adds hashes that the standard library lacks, such as SM3, by
	// TPM_ALG_ID. A bank without one is neither compared nor extended.
	Hashes map[uint16]func() hash.Hash

	// EventsAtLoad measures kexec_load in Load, as Linux 6.16 does, instead of in
	// Seal. From then on the kernel's list alone no longer replays: agents must
	// read the list through ReadList.
	EventsAtLoad bool

	// Strict makes Load refuse a list that does not replay to the PCR, or that the next
	// kernel will not restore.
	Strict bool

	// AllowUnproved lets Seal go on with a list that replayed at Load and no
	// longer does.
	AllowUnproved bool

	// KernelEvent says whether the running kernel will measure a kexec_execute of
	// its own, which has to be foreseen; the zero value finds out.
	KernelEvent KernelEvent

	// Rounds bounds how often Seal loads again because something was measured
	// meanwhile; 0 means 8.
	Rounds int

	// Quiesce holds what could measure during Seal; nil holds nothing.
	Quiesce Quiescer

	// System is the machine; nil means Host.
	System System

	// Logger hears what happens; nil means nobody.
	Logger *slog.Logger
}

// ReadOptions tune ReadList and Arrive.
type ReadOptions struct {
	// TPM gives the PCR's values; nil means /sys/class/tpm/tpm0.
	TPM transport.TPM

	// Values, when not nil, are what the list has to prove instead of the PCR's
	// present values: those of a quote. The list ends where they are reached.
	Values imalog.Values

	// PCR that IMA extends; 0 means 10.
	PCR uint32

	// Hashes as in Options.
	Hashes map[uint16]func() hash.Hash

	// StateDir is that of whoever called Load, and readable only to the same user.
	StateDir string

	// System is the machine; nil means Host.
	System System
}

// Quiescer holds whatever else could be measured while the last records are
// read: the user-space part of what the kernel series calls suspend and resume.
// Its methods must not call those of a Handover.
type Quiescer interface {
	// Suspend returns when nothing it holds can cause a measurement any more. An
	// error means that it holds nothing.
	Suspend(context.Context) error

	// Resume lets go what Suspend held. It is called when Seal or Execute fails,
	// and by Unload; after a successful Seal the hold outlives the Handover.
	Resume() error
}

// NoQuiesce is the Quiescer that holds nothing.
type NoQuiesce struct{}

// Suspend does nothing.
func (NoQuiesce) Suspend(context.Context) error { return nil }

// Resume does nothing.
func (NoQuiesce) Resume() error { return nil }

const (
	defaultStateDir = "/run/imakexec"
	defaultExtra    = 2048
	defaultPCR      = 10
	defaultRounds   = 8
)

func (o *Options) withDefaults() Options {
	var out Options
	if o != nil {
		out = *o
	}
	if out.PCR == 0 {
		out.PCR = defaultPCR
	}
	if out.StateDir == "" {
		out.StateDir = defaultStateDir
	}
	if out.Extra == 0 {
		out.Extra = defaultExtra
	}
	if out.Rounds <= 0 {
		out.Rounds = defaultRounds
	}
	if out.Quiesce == nil {
		out.Quiesce = NoQuiesce{}
	}
	if out.System == nil {
		out.System = Host()
	}
	if out.Logger == nil {
		out.Logger = slog.New(slog.DiscardHandler)
	}
	return out
}

func (o *ReadOptions) withDefaults() ReadOptions {
	var out ReadOptions
	if o != nil {
		out = *o
	}
	if out.PCR == 0 {
		out.PCR = defaultPCR
	}
	if out.StateDir == "" {
		out.StateDir = defaultStateDir
	}
	if out.System == nil {
		out.System = Host()
	}
	return out
}
