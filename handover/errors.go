package handover

import (
	"errors"
	"fmt"

	"github.com/imakexec/imakexec/internal/ledger"
	"github.com/imakexec/imakexec/kexecseg"
)

var (
	// ErrNoList says that this kernel shows no measurement list: IMA is not
	// built in, or securityfs is not mounted. There is nothing to hand over; an
	// ordinary kexec loses nothing.
	ErrNoList = ledger.ErrNoList

	// ErrNotProved says that the list does not replay to the PCR.
	ErrNotProved = errors.New("the list does not replay to the PCR")

	// ErrGrowing says that the list grew during every attempt to load it.
	ErrGrowing = errors.New("the list kept growing while it was loaded")

	// ErrOutgrown says that the list no longer fits its buffer and nothing can
	// plan a larger one.
	ErrOutgrown = ledger.ErrOutgrown

	// ErrNothingLoaded says that Resume found no handover of this boot.
	ErrNothingLoaded = errors.New("no handover was loaded in this boot")

	// ErrBusy says that another process, or another Handover of this one, seals.
	ErrBusy = errors.New("another handover is being sealed")

	// ErrClosed says that the handover was closed, unloaded or replaced by a
	// later Load.
	ErrClosed = errors.New("the handover is closed")
)

// OpError says at which step a handover failed and in what state it left the
// machine, which runs on and can be attested (see ReadList).
type OpError struct {
	Op   string // "load", "resume", "seal", "execute", "unload", "read list", "arrive"
	Step string // the part of it that failed, such as "plan" or "measure kexec_execute"

	// Loaded says that a kexec image is loaded all the same, this one or an earlier
	// one, and that its list may lack records: Unload and a reboot through the
	// firmware keep the machine attestable, a kexec may not.
	Loaded bool

	Err error
}

func (e *OpError) Error() string {
	s := fmt.Sprintf("handover: %s: %s: %v", e.Op, e.Step, e.Err)
	if e.Loaded {
		s += " (an image whose list may lack records is loaded: unload it, or seal again, before any reboot)"
	}
	return s
}

// fail makes the error of an operation on a machine, with Loaded as the kernel has
// it; when the kernel does not say, the careful answer is yes.
func fail(sys System, op, step string, err error) *OpError {
	loaded, lerr := kexecseg.Loaded(sys.FS())
	return &OpError{Op: op, Step: step, Loaded: loaded || lerr != nil, Err: err}
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }
