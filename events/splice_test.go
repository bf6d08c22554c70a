package events

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/imakexec/imakexec/imalog"
)

// scene is what happened on a machine: the records in the order in which they
// reached the PCR, some of them the kernel's, some of user space.
type scene struct {
	t     testing.TB
	banks []uint16

	truth   []imalog.Record
	kernel  []imalog.Record
	at      []int // where each entry lies
	values  []imalog.Values
	state   *imalog.Replayer
	journal []Entry
}

func newScene(t testing.TB, banks ...uint16) *scene {
	s := &scene{t: t, banks: banks}
	s.state = s.start()
	s.values = []imalog.Values{s.state.Values()}
	return s
}

func (s *scene) start() *imalog.Replayer {
	return imalog.NewReplayer(&imalog.ReplayOptions{Banks: s.banks})
}

func (s *scene) extend(rec imalog.Record) {
	s.t.Helper()
	if err := s.state.Add(&rec); err != nil {
		s.t.Fatal(err)
	}
	s.truth = append(s.truth, rec)
	s.values = append(s.values, s.state.Values())
}

// kernels has the kernel measure records.
func (s *scene) kernels(list ...imalog.Record) *scene {
	for _, rec := range list {
		s.extend(rec)
		s.kernel = append(s.kernel, rec)
	}
	return s
}

// own has user space measure a record, while the kernel is faster with some and
// follows with others before the PCR is read again.
func (s *scene) own(rec imalog.Record, state State, slipped, followed []imalog.Record) *scene {
	e := Entry{Record: rec, Before: s.state.Values(), State: state}
	s.kernels(slipped...)
	s.at = append(s.at, len(s.kernel))
	s.extend(rec)
	s.kernels(followed...)
	if state == Extended {
		e.After = s.state.Values()
	}
	s.journal = append(s.journal, e)
	return s
}

// lost is an entry whose extend never happened.
func (s *scene) lost(rec imalog.Record, state State) *scene {
	s.journal = append(s.journal, Entry{Record: rec, Before: s.state.Values(), State: state})
	s.at = append(s.at, -1)
	return s
}

func (s *scene) splice(want imalog.Values, opts *SpliceOptions) (*Spliced, error) {
	return Splice(context.Background(), s.start(), s.kernel, s.journal, want, opts)
}

// check splices with the present value of the PCR.
func (s *scene) check(opts *SpliceOptions) *Spliced {
	s.t.Helper()
	want := s.state.Values()
	got, err := s.splice(want, opts)
	if err != nil {
		s.t.Fatal(err)
	}
	if !slices.Equal(got.At, s.at) || got.Kernel != len(s.kernel) || !got.End.Match(want) {
		s.t.Errorf("at %v with %d kernel records, want %v with %d", got.At, got.Kernel, s.at, len(s.kernel))
	}
	if list := got.Merge(s.kernel, s.journal); !slices.EqualFunc(list, s.truth, func(a, b imalog.Record) bool { return sameRecord(&a, &b) }) {
		s.t.Errorf("merged list of %d is not the one of %d that was measured", len(list), len(s.truth))
	}
	return got
}

// files makes kernel records.
func files(t testing.TB, n int, name string) []imalog.Record {
	list := make([]imalog.Record, n)
	for i := range list {
		list[i] = record(t, fmt.Sprintf("/%s/%d", name, i), name)
	}
	return list
}

func TestSplicePlaces(t *testing.T) {
	load, execute, again := record(t, KexecLoad, "l"), record(t, KexecExecute, "e"), record(t, KexecLoad, "l")
	f := files(t, 40, "f")
	for _, banks := range [][]uint16{nil, {imalog.AlgSHA1}, {imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512}} {
		tests := []struct {
			name string
			make func(*scene)
		}{
			{"nothing", func(s *scene) {}},
			{"no entries", func(s *scene) { s.kernels(f...) }},
			{"no kernel records", func(s *scene) { s.own(load, Extended, nil, nil) }},
			{"in the middle", func(s *scene) { s.kernels(f[:20]...).own(load, Extended, nil, nil).kernels(f[20:]...) }},
			{"at the end", func(s *scene) { s.kernels(f...).own(load, Extended, nil, nil) }},
			{"two in a row", func(s *scene) {
				s.kernels(f...).own(load, Extended, nil, nil).own(execute, Unsettled, nil, nil)
			}},
			{"apart", func(s *scene) {
				s.kernels(f[:5]...).own(load, Extended, nil, nil).kernels(f[5:30]...).own(execute, Extended, nil, nil).kernels(f[30:]...)
			}},
			{"the kernel was faster", func(s *scene) { s.kernels(f[:5]...).own(load, Extended, f[5:8], f[8:9]).kernels(f[9:]...) }},
			{"much faster", func(s *scene) { s.kernels(f[:5]...).own(load, Unsettled, f[5:39], nil) }},
			{"faster twice", func(s *scene) {
				s.own(load, Unsettled, f[:4], f[4:6]).kernels(f[6:20]...).own(execute, Unsettled, f[20:22], nil).kernels(f[22:]...)
			}},
			{"never extended", func(s *scene) { s.kernels(f[:5]...).lost(load, Unsettled).kernels(f[5:]...) }},
			{"refused", func(s *scene) {
				s.kernels(f[:5]...).lost(load, Dropped).kernels(f[5:]...).own(load, Extended, nil, nil)
			}},
			{"lost, then measured again at once", func(s *scene) {
				s.kernels(f[:5]...).lost(load, Unsettled).own(again, Extended, nil, nil).kernels(f[5:]...)
			}},
			{"measured twice", func(s *scene) { s.own(load, Extended, nil, nil).own(again, Extended, nil, nil).kernels(f...) }},
			{"lost between two", func(s *scene) {
				s.own(load, Extended, f[:1], nil).lost(execute, Unsettled).kernels(f[1:]...).own(execute, Unsettled, nil, nil)
			}},
			{"the same as a kernel record", func(s *scene) { s.kernels(f[:5]...).own(f[9], Extended, nil, nil).kernels(f[5:]...) }},
		}
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/%d banks", tt.name, len(banks)), func(t *testing.T) {
				s := newScene(t, banks...)
				tt.make(s)
				s.check(nil)
				// Without After, as when the second line of the journal was lost.
				for i := range s.journal {
					s.journal[i].After = nil
				}
				s.check(nil)
			})
		}
	}
}

// TestSpliceAtEveryMoment: the PCR's value may be older than the list and the
// journal, as a quote is.
func TestSpliceAtEveryMoment(t *testing.T) {
	f := files(t, 20, "f")
	s := newScene(t).kernels(f[:5]...).own(record(t, KexecLoad, "l"), Extended, f[5:7], f[7:8]).
		kernels(f[8:12]...).lost(record(t, "x", "y"), Unsettled).own(record(t, KexecExecute, "e"), Unsettled, nil, nil).kernels(f[12:]...)
	for n, want := range s.values {
		got, err := s.splice(want, nil)
		if err != nil {
			t.Fatalf("after %d records: %v", n, err)
		}
		list := got.Merge(s.kernel[:got.Kernel], s.journal)
		if !slices.EqualFunc(list, s.truth[:n], func(a, b imalog.Record) bool { return sameRecord(&a, &b) }) {
			t.Errorf("after %d records: %d kernel records, at %v", n, got.Kernel, got.At)
		}
	}
}

// TestSpliceCapture puts a user-space record between those of a real list, with
// the PCR in all three banks as start and end.
func TestSpliceCapture(t *testing.T) {
	list := readList(t, mainline+"arrived")
	s := newScene(t, imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384).kernels(list...)
	if want := readPCR(t, mainline+"arrived"); !s.state.Match(want) {
		t.Fatalf("the capture replays to %x, its PCR is %x", s.state.Values(), want)
	}
	// Take the kernel's own two events for ones of user space.
	load, execute := 13, 18
	var kernel []imalog.Record
	for i, rec := range list {
		if i != load && i != execute {
			kernel = append(kernel, rec)
		}
	}
	journal := []Entry{
		{Record: list[load], Before: s.values[load]},
		{Record: list[execute], Before: s.values[execute-2]}, // two slipped between
	}
	got, err := Splice(t.Context(), s.start(), kernel, journal, readPCR(t, mainline+"arrived"), nil)
	if err != nil || !slices.Equal(got.At, []int{load, execute - 1}) || got.Kernel != len(kernel) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestSpliceWithoutBefore has an entry that nothing is known of but the record.
func TestSpliceWithoutBefore(t *testing.T) {
	f := files(t, 40, "f")
	s := newScene(t).kernels(f[:25]...).own(record(t, KexecLoad, "l"), Extended, nil, nil).kernels(f[25:]...)
	s.journal[0].Before, s.journal[0].After = nil, nil
	s.check(nil)
	// Bank values that the replay does not have are no help and no harm.
	s.journal[0].Before = imalog.Values{imalog.AlgSM3_256: make([]byte, 32)}
	s.check(nil)
}

// TestSpliceOtherPCR: records of other PCRs, in the list or the journal, have no
// part in the proof.
func TestSpliceOtherPCR(t *testing.T) {
	f := files(t, 6, "f")
	f[2].PCR, f[3].PCR = 11, 12
	s := newScene(t).kernels(f[:4]...)
	s.kernel = s.kernel[:2] // own comes before those of other PCRs: where else cannot be told
	s.truth = s.truth[:2]
	s.own(record(t, KexecLoad, "l"), Extended, nil, nil).kernels(f[2:]...)
	s.check(nil)
	other := record(t, "other", "PCR")
	other.PCR = 11
	s.journal = append(s.journal, Entry{Record: other, Before: s.values[0], State: Extended})
	s.at = append(s.at, -1)
	s.check(nil)

	eleven := imalog.NewReplayer(&imalog.ReplayOptions{PCR: 11})
	want := eleven.Clone()
	if err := errors.Join(want.Add(&f[2]), want.Add(&other)); err != nil {
		t.Fatal(err)
	}
	got, err := Splice(t.Context(), eleven, s.kernel, s.journal, want.Values(), nil)
	if err != nil || got.At[0] != -1 || got.At[1] != 3 || got.Kernel != 3 {
		t.Errorf("PCR 11: %+v, %v", got, err)
	}
}

func TestSpliceErrors(t *testing.T) {
	f := files(t, 30, "f")
	load := record(t, KexecLoad, "l")
	good := func() *scene {
		return newScene(t).kernels(f[:10]...).own(load, Extended, f[10:12], nil).kernels(f[12:]...)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	twin := load.Clone()
	twin.Template = "d-ng|n-ng|buf"
	tests := []struct {
		name    string
		do      func() error
		want    error
		limited bool
	}{
		{"a stranger extended", func() error {
			s := good()
			s.extend(record(t, "stranger", "s"))
			_, err := s.splice(s.state.Values(), nil)
			return err
		}, ErrNoPlace, false},
		{"one bank does not fit", func() error {
			s := good()
			want := s.state.Values()
			want[imalog.AlgSHA256][31] ^= 1
			_, err := s.splice(want, nil)
			return err
		}, ErrNoPlace, false},
		{"a record of the kernel is missing", func() error {
			s := good()
			s.kernel = append(s.kernel[:3:3], s.kernel[4:]...)
			_, err := s.splice(s.state.Values(), nil)
			return err
		}, ErrNoPlace, false},
		{"said to be refused, yet extended", func() error {
			s := good()
			s.journal[0].State = Dropped
			_, err := s.splice(s.state.Values(), nil)
			return err
		}, ErrNoPlace, false},
		{"bounded", func() error {
			s := good()
			s.journal[0].After = nil
			_, err := s.splice(s.state.Values(), &SpliceOptions{MaxSteps: 31})
			return err
		}, ErrNoPlace, true},
		{"no values", func() error { _, err := good().splice(nil, nil); return err }, ErrNoValues, false},
		{"a bank that is not replayed", func() error {
			s := good()
			want := s.state.Values()
			want[imalog.AlgSHA512] = make([]byte, 64)
			_, err := s.splice(want, nil)
			return err
		}, ErrNoValues, false},
		{"extends alike, but another record", func() error {
			s := newScene(t).kernels(f[:5]...).own(load, Extended, nil, nil).kernels(twin).kernels(f[5:]...)
			_, err := s.splice(s.state.Values(), nil)
			return err
		}, ErrAmbiguous, false},
		{"the other way round", func() error {
			s := newScene(t).kernels(f[:5]...).kernels(twin).own(load, Extended, nil, nil).kernels(f[5:]...)
			_, err := s.splice(s.state.Values(), nil)
			return err
		}, ErrAmbiguous, false},
	}
	for _, tt := range tests {
		err := tt.do()
		var se *SpliceError
		if !errors.Is(err, tt.want) || !errors.As(err, &se) || se.Limited != tt.limited {
			t.Errorf("%s: %v, want %v (limited %v)", tt.name, err, tt.want, tt.limited)
		}
	}
	s := newScene(t).kernels(files(t, 3000, "f")...)
	if _, err := Splice(cancelled, s.start(), s.kernel, nil, s.state.Values(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestSpliceRandom makes random histories and finds each again.
func TestSpliceRandom(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := newScene(t)
		some := func(n int, name string) []imalog.Record {
			return files(t, rnd.IntN(n), fmt.Sprintf("%s%d", name, rnd.Int()))
		}
		s.kernels(some(30, "k")...)
		for i := range rnd.IntN(5) {
			rec := record(t, fmt.Sprintf("own%d", i), fmt.Sprint(rnd.IntN(2)))
			switch rnd.IntN(4) {
			case 0:
				s.lost(rec, State(2*rnd.IntN(2))) // unsettled or dropped
			case 1:
				s.own(rec, Extended, nil, nil)
			default:
				s.own(rec, State(rnd.IntN(2)), some(6, "s"), some(4, "a"))
			}
			if rnd.IntN(2) == 0 {
				s.kernels(some(10, "k")...)
			}
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) { s.t = t; s.check(nil) })
	}
}

// TestSpliceWork counts records replayed: one pass where Before fits, and not
// many more where the kernel was a little faster.
func TestSpliceWork(t *testing.T) {
	f := files(t, 25000, "f")
	load := record(t, KexecLoad, "l")
	tests := []struct {
		name  string
		s     *scene
		steps int
	}{
		{"in place", newScene(t).kernels(f[:20000]...).own(load, Unsettled, nil, nil).kernels(f[20000:]...), 25001},
		{"never extended", newScene(t).kernels(f[:20000]...).lost(load, Unsettled).kernels(f[20000:]...), 30001},
		{"one lost early, one slipped late", newScene(t).kernels(f[:1000]...).lost(load, Unsettled).kernels(f[1000:20000]...).
			own(record(t, KexecExecute, "e"), Extended, f[20000:20007], nil).kernels(f[20007:]...), 65000},
		{"seven slipped", newScene(t).kernels(f[:20000]...).own(load, Extended, f[20000:20007], f[20007:20009]).kernels(f[20009:]...), 35500},
	}
	for _, tt := range tests {
		tt.s.t = t
		if got := tt.s.check(nil); got.Steps > tt.steps {
			t.Errorf("%s: %d steps, at most %d wanted", tt.name, got.Steps, tt.steps)
		}
	}
}
