package events

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// ErrFigures: the payload is not that of kexec_load or kexec_execute.
var ErrFigures = errors.New("not the figures of a kexec event")

// Figures is the payload of kexec_load and kexec_execute
// (security/integrity/ima/ima_kexec.c: ima_measure_kexec_event).
type Figures struct {
	// SegmentSize is the size of the buffer set aside for the list, in bytes
	// (kexec_segment_size).
	SegmentSize uint64 `json:"segment_size"`
	// ListSize is 24, the size of the buffer's header, and the bytes of the list
	// before this record (ima_binary_runtime_size).
	ListSize uint64 `json:"list_size"`
	// Count is the number of records before this one
	// (ima_runtime_measurements_count).
	Count uint64 `json:"count"`
	// Extra holds what else the payload says, in its form and order
	// ("name=value;..."): fields that a newer kernel may add.
	Extra string `json:"extra,omitempty"`
}

const (
	fieldSegment = "kexec_segment_size="
	fieldSize    = "ima_binary_runtime_size="
	fieldCount   = "ima_runtime_measurements_count="
)

// AppendText appends the payload as the kernel formats it. A Figures that
// ParseFigures returned comes out byte for byte, provided that the newer fields
// stood behind the old ones and no number had leading zeros. It fails when Extra
// is not a row of fields.
func (f Figures) AppendText(b []byte) ([]byte, error) {
	if f.Extra != "" {
		if _, err := parseFields([]byte(f.Extra), nil); err != nil {
			return b, err
		}
	}
	b = append(b, fieldSegment...)
	b = strconv.AppendUint(b, f.SegmentSize, 10)
	b = append(b, ';')
	b = append(b, fieldSize...)
	b = strconv.AppendUint(b, f.ListSize, 10)
	b = append(b, ';')
	b = append(b, fieldCount...)
	b = strconv.AppendUint(b, f.Count, 10)
	b = append(b, ';')
	return append(b, f.Extra...), nil
}

// ParseFigures reads the payload of kexec_load or kexec_execute, the bytes of
// the record's field buf. The three fields may stand in any order among others,
// which are kept in Extra. It fails with ErrFigures when one of the three is
// missing, doubled or no number, or a field has no end.
func ParseFigures(payload []byte) (Figures, error) {
	var f Figures
	known := []struct {
		name string
		to   *uint64
		seen bool
	}{{fieldSegment, &f.SegmentSize, false}, {fieldSize, &f.ListSize, false}, {fieldCount, &f.Count, false}}
	extra, err := parseFields(payload, func(offset int, field []byte) (bool, error) {
		for i := range known {
			k := &known[i]
			value, ok := bytes.CutPrefix(field, []byte(k.name))
			if !ok {
				continue
			}
			n, err := strconv.ParseUint(string(value), 10, 64)
			switch {
			case k.seen:
				return false, fmt.Errorf("events: %w: second %s at byte %d", ErrFigures, k.name, offset)
			case err != nil || value[0] == '+':
				return false, fmt.Errorf("events: %w: %s%.20q at byte %d is no number", ErrFigures, k.name, value, offset)
			}
			*k.to, k.seen = n, true
			return true, nil
		}
		return false, nil
	})
	if err != nil {
		return Figures{}, err
	}
	for _, k := range known {
		if !k.seen {
			return Figures{}, fmt.Errorf("events: %w: no %s", ErrFigures, k.name)
		}
	}
	f.Extra = string(extra)
	return f, nil
}

// parseFields walks the fields of "name=value;name=value;" and returns those
// that take does not.
func parseFields(b []byte, take func(offset int, field []byte) (bool, error)) ([]byte, error) {
	var extra []byte
	for offset := 0; offset < len(b); {
		end := bytes.IndexByte(b[offset:], ';')
		if end < 0 {
			return nil, fmt.Errorf("events: %w: field at byte %d does not end in ';'", ErrFigures, offset)
		}
		field := b[offset : offset+end]
		if bytes.IndexByte(field, '=') <= 0 || bytes.IndexByte(field, 0) >= 0 {
			return nil, fmt.Errorf("events: %w: field at byte %d is not name=value", ErrFigures, offset)
		}
		taken := false
		if take != nil {
			var err error
			if taken, err = take(offset, field); err != nil {
				return nil, err
			}
		}
		if !taken {
			extra = append(extra, b[offset:offset+end+1]...)
		}
		offset += end + 1
	}
	return extra, nil
}
