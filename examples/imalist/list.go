package main

import (
	"errors"
	"fmt"
)

// show prints the records that the filter chooses. A record that the kernel could
// not show is reported to note and left out; problems tells that there were some.
type show struct {
	placer  placer
	filter  filter
	printer printer
	note    func(string)

	summary  summary
	problems int
}

func (s *show) record(e *entry) error {
	s.summary.records++
	s.summary.boots = e.Boot.Number
	if s.summary.digests == "" {
		s.summary.digests = digestsOf(e.Record, s.placer.alg)
	}
	s.summary.bytes = e.Offset + int64(e.BinarySize())
	if e.Violation() {
		s.summary.violations++
	}
	if e.Wrong {
		s.summary.wrong++
	}
	if !s.filter.match(e) {
		return nil
	}
	s.summary.shown++
	err := s.printer.record(e)
	if errors.Is(err, errUnwritable) {
		s.problems++
		s.note(err.Error())
		return nil
	}
	return err
}

// all shows a whole list and returns why it could not be read to its end.
func (s *show) all(list sequence) error {
	for rec, err := range list {
		if err != nil {
			return s.end(err)
		}
		e := s.placer.place(&rec)
		if err := s.record(&e); err != nil {
			return err
		}
	}
	return s.end(nil)
}

// end ends what is shown and returns err, why nothing more can be, or else that
// records were left out.
func (s *show) end(err error) error {
	failed := s.printer.end(&s.summary)
	switch {
	case err != nil:
		return err
	case failed == nil && s.problems > 0:
		return fmt.Errorf("%s left out", count(s.problems, "record"))
	}
	return failed
}
