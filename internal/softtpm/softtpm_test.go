package softtpm_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"hash"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/imakexec/imakexec/internal/softtpm"
)

func extend(t *softtpm.TPM, pcr uint32, digests ...tpm2.TPMTHA) error {
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: digests},
	}.Execute(t)
	return err
}

func chain(h hash.Hash, digests ...[]byte) []byte {
	state := make([]byte, h.Size())
	for _, d := range digests {
		h.Reset()
		h.Write(state)
		h.Write(d)
		state = h.Sum(nil)
	}
	return state
}

func read(t *testing.T, tpm *softtpm.TPM, pcrs []uint, algs ...tpm2.TPMAlgID) *tpm2.PCRReadResponse {
	t.Helper()
	var sel []tpm2.TPMSPCRSelection
	for _, a := range algs {
		sel = append(sel, tpm2.TPMSPCRSelection{Hash: a, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)})
	}
	rsp, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: sel}}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return rsp
}

func TestExtendAndRead(t *testing.T) {
	tpm := softtpm.New(nil)
	a, b := bytes.Repeat([]byte{0xa}, 20), bytes.Repeat([]byte{0xb}, 32)
	both := []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA1, Digest: a}, {HashAlg: tpm2.TPMAlgSHA256, Digest: b}}
	if err := extend(tpm, 10, both...); err != nil {
		t.Fatal(err)
	}
	// A digest for a bank that is not allocated is no error and no change.
	if err := extend(tpm, 10, both[1], tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA512, Digest: make([]byte, 64)}); err != nil {
		t.Fatal(err)
	}
	rsp := read(t, tpm, []uint{10}, tpm2.TPMAlgSHA1, tpm2.TPMAlgSHA256)
	got := rsp.PCRValues.Digests
	if len(got) != 2 || !bytes.Equal(got[0].Buffer, chain(sha1.New(), a)) || !bytes.Equal(got[1].Buffer, chain(sha256.New(), b, b)) {
		t.Errorf("read %x", got)
	}
	if rsp.PCRUpdateCounter != 3 {
		t.Errorf("update counter %d, want 3", rsp.PCRUpdateCounter)
	}
	if n := tpm.Extends(); n != 2 {
		t.Errorf("%d extends, want 2", n)
	}
	tpm.PowerCycle()
	if v := tpm.Value(tpm2.TPMAlgSHA1, 10); !bytes.Equal(v, make([]byte, 20)) {
		t.Errorf("after a power cycle: %x", v)
	}
}

func TestReadAnswersEightDigests(t *testing.T) {
	tpm := softtpm.New(&softtpm.Options{
		Banks:       []softtpm.Bank{softtpm.SHA1(), softtpm.SHA256()},
		Unallocated: []softtpm.Bank{softtpm.SHA384()},
	})
	rsp := read(t, tpm, []uint{0, 1, 2, 3, 4, 23}, tpm2.TPMAlgSHA1, tpm2.TPMAlgSHA384, tpm2.TPMAlgSHA256)
	if n := len(rsp.PCRValues.Digests); n != 8 {
		t.Fatalf("%d digests, want 8", n)
	}
	want := [][]byte{{0x1f, 0, 0x80}, {0, 0, 0}, {3, 0, 0}}
	for i, s := range rsp.PCRSelectionOut.PCRSelections {
		if !bytes.Equal(s.PCRSelect, want[i]) {
			t.Errorf("selection %d: %x, want %x", i, s.PCRSelect, want[i])
		}
	}
}

func TestCapability(t *testing.T) {
	tpm := softtpm.New(&softtpm.Options{Unallocated: []softtpm.Bank{softtpm.SHA384()}})
	for count, more := range map[uint32]tpm2.TPMIYesNo{0: true, 1: false, 3: false, 99: false} {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: count}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		pcrs, err := rsp.CapabilityData.Data.AssignedPCR()
		if err != nil {
			t.Fatal(err)
		}
		if (count > 0) != (len(pcrs.PCRSelections) == 3) || rsp.MoreData != more {
			t.Errorf("count %d: %d banks, more %v", count, len(pcrs.PCRSelections), rsp.MoreData)
		}
	}
}

func TestRefusals(t *testing.T) {
	tpm := softtpm.New(nil)
	sha := tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA1, Digest: make([]byte, 20)}
	tests := []struct {
		name string
		do   func() error
		want tpm2.TPMRC
	}{
		{"no such PCR", func() error { return extend(tpm, 24, sha) }, tpm2.TPMRCValue},
		{"locality", func() error { return extend(tpm, 17, sha) }, tpm2.TPMRCLocality},
		{"unknown hash", func() error { return extend(tpm, 10, tpm2.TPMTHA{HashAlg: 0x12, Digest: make([]byte, 32)}) }, tpm2.TPMRCHash},
		{"digest cut off", func() error { return extend(tpm, 10, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA1, Digest: make([]byte, 19)}) }, tpm2.TPMRCInsufficient},
		{"digest too long", func() error { return extend(tpm, 10, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA1, Digest: make([]byte, 21)}) }, tpm2.TPMRCSize},
		{"wrong password", func() error {
			_, err := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: 10, Auth: tpm2.PasswordAuth([]byte("x"))}}.Execute(tpm)
			return err
		}, tpm2.TPMRCBadAuth},
		{"second start", func() error { _, err := tpm2.Startup{StartupType: tpm2.TPMSUClear}.Execute(tpm); return err }, tpm2.TPMRCInitialize},
		{"another capability", func() error {
			_, err := tpm2.GetCapability{Capability: tpm2.TPMCapAlgs, PropertyCount: 1}.Execute(tpm)
			return err
		}, tpm2.TPMRCValue},
		{"another command", func() error { _, err := tpm2.GetRandom{BytesRequested: 1}.Execute(tpm); return err }, tpm2.TPMRCCommandCode},
	}
	for _, tt := range tests {
		if err := tt.do(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if n := tpm.Extends(); n != 0 {
		t.Errorf("%d extends in spite of refusals", n)
	}
}

func TestFaults(t *testing.T) {
	dead := errors.New("dead")
	sha := tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA1, Digest: make([]byte, 20)}
	tests := []struct {
		name    string
		fault   softtpm.Fault
		want    []error
		extends int
	}{
		{"retry once", softtpm.Fault{RC: tpm2.TPMRCRetry}, []error{tpm2.TPMRCRetry, nil}, 1},
		{"busy twice, later", softtpm.Fault{RC: tpm2.TPMRCTesting, Skip: 1, Times: 2}, []error{nil, tpm2.TPMRCTesting, tpm2.TPMRCTesting, nil}, 2},
		{"dies before", softtpm.Fault{Err: dead}, []error{dead, nil}, 1},
		{"dies after", softtpm.Fault{Err: dead, Done: true}, []error{dead, nil}, 2},
		{"stays dead", softtpm.Fault{Err: dead, Times: -1}, []error{dead, dead, dead}, 0},
		{"another command", softtpm.Fault{Err: dead, Command: tpm2.TPMCCPCRRead}, []error{nil}, 1},
	}
	for _, tt := range tests {
		tpm := softtpm.New(nil)
		tpm.Inject(tt.fault)
		for i, want := range tt.want {
			if err := extend(tpm, 10, sha); !errors.Is(err, want) || (want == nil) != (err == nil) {
				t.Errorf("%s: extend %d: %v, want %v", tt.name, i, err, want)
			}
		}
		if n := tpm.Extends(); n != tt.extends {
			t.Errorf("%s: %d extends, want %d", tt.name, n, tt.extends)
		}
		tpm.Repair()
		if err := extend(tpm, 10, sha); err != nil {
			t.Errorf("%s: repaired: %v", tt.name, err)
		}
	}
}

func TestStrangerInHook(t *testing.T) {
	tpm := softtpm.New(nil)
	mine, stranger := bytes.Repeat([]byte{1}, 20), bytes.Repeat([]byte{2}, 20)
	tpm.OnExtend(func(pcr uint32) {
		if err := extend(tpm, pcr, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA1, Digest: stranger}); err != nil {
			t.Error(err)
		}
	}, nil)
	for range 2 {
		if err := extend(tpm, 10, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA1, Digest: mine}); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := tpm.Value(tpm2.TPMAlgSHA1, 10), chain(sha1.New(), stranger, mine, stranger, mine); !bytes.Equal(got, want) {
		t.Errorf("PCR %x, want %x", got, want)
	}
}

func TestConcurrentUse(t *testing.T) {
	tpm := softtpm.New(nil)
	d := bytes.Repeat([]byte{7}, 20)
	var wg sync.WaitGroup
	want := make([][]byte, 0, 80)
	for range 8 {
		for range 10 {
			want = append(want, d)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 10 {
				if err := extend(tpm, 10, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA1, Digest: d}); err != nil {
					t.Error(err)
				}
				tpm.Value(tpm2.TPMAlgSHA1, 10)
			}
		}()
	}
	wg.Wait()
	if got := tpm.Value(tpm2.TPMAlgSHA1, 10); !bytes.Equal(got, chain(sha1.New(), want...)) {
		t.Error("an extend was lost")
	}
}
