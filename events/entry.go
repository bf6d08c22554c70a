package events

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/imakexec/imakexec/imalog"
)

// State is what is known of a journaled record's way into the PCR.
type State uint8

const (
	// Unsettled: the record was to be extended and may have been. Splice finds
	// out.
	Unsettled State = iota
	// Extended: the TPM extended it.
	Extended
	// Dropped: the TPM refused it; it is in no PCR.
	Dropped
)

// String returns the state's name in the journal.
func (s State) String() string {
	switch s {
	case Unsettled:
		return "unsettled"
	case Extended:
		return "extended"
	case Dropped:
		return "dropped"
	}
	return "State(" + strconv.Itoa(int(s)) + ")"
}

// Entry is one record that user space measured, or was about to.
type Entry struct {
	Seq    uint64        // its number in the journal of this boot, from 1; set by Append
	Time   time.Time     // when it was written; set by Append where zero
	Record imalog.Record // as it was extended
	Count  int           // records in the kernel's list at that time
	Before imalog.Values // the PCR just before the extend, all allocated banks
	State  State
	After  imalog.Values // the PCR just after, nil where it is not known
}

// line is one line of the journal: an entry, or what became of one.
type line struct {
	Seq    uint64    `json:"seq"`
	BootID string    `json:"boot_id"`
	Time   time.Time `json:"time"`

	// An entry.
	PCR    uint32            `json:"pcr,omitempty"`
	Name   string            `json:"name,omitempty"`
	Record []byte            `json:"record,omitempty"`
	Count  int               `json:"count,omitempty"`
	Before map[string]string `json:"before,omitempty"`
	Writer *writer           `json:"writer,omitempty"`

	// What became of entry Seq.
	State string            `json:"state,omitempty"`
	After map[string]string `json:"after,omitempty"`
}

// stateUnknown in a line says that the measurement ended and its outcome is not
// known. The entry stays unsettled, but nobody is at work on it any more.
const stateUnknown = "unknown"

var errLine = errors.New("not a line of a journal")

func hexValues(v imalog.Values) map[string]string {
	if v == nil {
		return nil
	}
	m := make(map[string]string, len(v))
	for alg, value := range v {
		m[bankName(alg)] = hex.EncodeToString(value)
	}
	return m
}

func parseValues(m map[string]string) (imalog.Values, error) {
	if m == nil {
		return nil, nil
	}
	v := make(imalog.Values, len(m))
	for name, text := range m {
		alg, ok := imalog.AlgByName(name)
		if !ok {
			n, err := strconv.ParseUint(strings.TrimPrefix(name, "0x"), 16, 16)
			if err != nil || !strings.HasPrefix(name, "0x") {
				return nil, fmt.Errorf("%w: bank %.20q", errLine, name)
			}
			alg = uint16(n)
		}
		value, err := hex.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errLine, err)
		}
		v[alg] = value
	}
	return v, nil
}

// bankName names a bank for people: the kernel's name, or the TPM_ALG_ID.
func bankName(alg uint16) string {
	if name := imalog.AlgName(alg); name != "" {
		return name
	}
	return fmt.Sprintf("0x%04x", alg)
}

func encodeEntry(e *Entry, bootID string, w writer) ([]byte, error) {
	rec, err := e.Record.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	l := line{
		Seq: e.Seq, BootID: bootID, Time: e.Time,
		PCR: e.Record.PCR, Name: e.Record.Name(), Record: rec, Count: e.Count,
		Before: hexValues(e.Before), Writer: &w,
	}
	// What could not be read back must not be extended.
	if back, err := l.entry(); err != nil || !sameRecord(&back.Record, &e.Record) {
		return nil, fmt.Errorf("%w: a record that does not come back", ErrRecord)
	}
	return encodeLine(&l)
}

func encodeLine(l *line) ([]byte, error) {
	b, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// entry returns the entry that a line holds.
func (l *line) entry() (Entry, error) {
	e := Entry{Seq: l.Seq, Time: l.Time, Count: l.Count}
	n := 0
	for rec, err := range imalog.Records(l.Record, nil) {
		if err != nil {
			return Entry{}, fmt.Errorf("%w: %w", errLine, err)
		}
		e.Record = rec.Clone()
		n++
	}
	if n != 1 || e.Record.PCR != l.PCR || l.Count < 0 {
		return Entry{}, errLine
	}
	var err error
	e.Before, err = parseValues(l.Before)
	return e, err
}
