package handover

import (
	"strings"

	"github.com/imakexec/imakexec/imalog"
)

// Proof says what the PCR has to say of a list.
type Proof struct {
	// Proved says that the list replays to the PCR in every bank of Banks.
	Proved bool

	// Banks holds the algorithms (TPM_ALG_ID) that were compared. It is empty
	// when no PCR could be read: then nothing can be proved, or disproved.
	Banks []uint16

	// Since is the index of the first record behind the gap when the list does not
	// replay: where Load or Seal saw it break, or where by its events records are
	// missing (events.Audit); 0 when nothing is known. A PCR proves a list and
	// cannot say where one is broken, so this is inferred.
	Since int

	// Reason is a sentence for people when Proved is false.
	Reason string
}

func (p Proof) String() string {
	if !p.Proved {
		return "not proved: " + p.Reason
	}
	names := make([]string, len(p.Banks))
	for i, alg := range p.Banks {
		names[i] = imalog.AlgName(alg)
	}
	return "replays to the PCR in " + strings.Join(names, ", ")
}
