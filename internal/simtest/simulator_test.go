package simtest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm-tools/simulator"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/imakexec/imakexec/events"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/internal/softtpm"
)

// open starts the reference TPM. There is one in a process, so tests that use it
// do not run in parallel.
func open(t *testing.T) transport.TPM {
	t.Helper()
	sim, err := simulator.Get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	return transport.FromReadWriter(sim)
}

var allBanks = []uint16{imalog.AlgSHA1, imalog.AlgSHA256, imalog.AlgSHA384, imalog.AlgSHA512}

func newRecord(t *testing.T, name, data string) imalog.Record {
	t.Helper()
	rec, err := events.NewRecord(name, []byte(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// extend extends a record into all banks as a kernel does that has every hash.
func extend(t *testing.T, tpm transport.TPM, rec *imalog.Record) {
	t.Helper()
	var digests []tpm2.TPMTHA
	for _, alg := range allBanks {
		d, err := rec.AppendDigest(nil, alg)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgID(alg), Digest: d})
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(rec.PCR), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: digests},
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
}

func newMeasurer(t *testing.T, tpm transport.TPM) *events.Measurer {
	t.Helper()
	j, err := events.OpenJournal(filepath.Join(t.TempDir(), "state"), &events.JournalOptions{BootID: "simulated"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return &events.Measurer{TPM: tpm, Journal: j}
}

// TestMeasure measures into the reference TPM between the extends of a kernel,
// and finds the records again by its PCR in all four banks, one of them padded.
func TestMeasure(t *testing.T) {
	tpm := open(t)
	m := newMeasurer(t, tpm)
	start := imalog.NewReplayer(&imalog.ReplayOptions{Banks: allBanks})
	truth := start.Clone()
	var kernel []imalog.Record
	add := func(rec imalog.Record) {
		extend(t, tpm, &rec)
		kernel = append(kernel, rec)
		if err := truth.Add(&rec); err != nil {
			t.Fatal(err)
		}
	}
	add(newRecord(t, "boot_aggregate", "b"))
	for _, name := range []string{events.KexecLoad, events.KexecExecute} {
		rec := newRecord(t, name, "kexec_segment_size=4096;ima_binary_runtime_size=1355;ima_runtime_measurements_count=13;")
		before := truth.Values()
		if err := truth.Add(&rec); err != nil {
			t.Fatal(err)
		}
		done, err := m.Measure(t.Context(), &rec, len(kernel))
		if err != nil {
			t.Fatal(err)
		}
		if done.Outcome != events.Done || !done.Before.Equal(before) || !done.After.Equal(truth.Values()) || len(done.After) != 4 {
			t.Errorf("%s: %v\nbefore %x\nafter  %x\nwant   %x", name, done.Outcome, done.Before, done.After, truth.Values())
		}
		add(newRecord(t, "/file", name))
	}
	values, err := m.Values(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found, err := events.Splice(t.Context(), start, kernel, m.Journal.Entries(), values, nil)
	if err != nil || found.At[0] != 1 || found.At[1] != 2 || found.Kernel != 3 {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestMeasurePadded pads the banks that Debian's 6.1 kernel pads.
func TestMeasurePadded(t *testing.T) {
	m := newMeasurer(t, open(t))
	replayer := imalog.NewReplayer(&imalog.ReplayOptions{Banks: allBanks, Padded: []uint16{imalog.AlgSHA384, imalog.AlgSHA512}})
	m.Padded = replayer.Padded
	rec := newRecord(t, events.KexecLoad, "x")
	done, err := m.Measure(t.Context(), &rec, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := replayer.Add(&rec); err != nil || !done.After.Equal(replayer.Values()) {
		t.Errorf("PCR %x, replay %x, %v", done.After, replayer.Values(), err)
	}
}

// dying loses the answer to a command, or the command itself.
type dying struct {
	transport.TPM
	command tpm2.TPMCC
	after   bool
}

var errDead = errors.New("the transport died")

func (d *dying) Send(cmd []byte) ([]byte, error) {
	if tpm2.TPMCC(binary.BigEndian.Uint32(cmd[6:])) != d.command {
		return d.TPM.Send(cmd)
	}
	d.command = 0
	if d.after {
		if _, err := d.TPM.Send(cmd); err != nil {
			return nil, err
		}
	}
	return nil, errDead
}

func TestMeasureDies(t *testing.T) {
	for name, after := range map[string]bool{"before the extend": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			m := newMeasurer(t, &dying{open(t), tpm2.TPMCCPCRExtend, after})
			rec := newRecord(t, events.KexecLoad, "x")
			done, err := m.Measure(t.Context(), &rec, 0)
			want := imalog.NewReplayer(&imalog.ReplayOptions{Banks: allBanks})
			if after {
				if err := want.Add(&rec); err != nil {
					t.Fatal(err)
				}
			}
			if (done.Outcome == events.Done) != after || errors.Is(err, errDead) == after || !done.After.Equal(want.Values()) {
				t.Errorf("%v, %v", done.Outcome, err)
			}
		})
	}
}

// TestSofttpmIsTheReference sends the same commands to the test double and to
// the reference TPM, good ones and broken ones, and compares the answers byte
// for byte.
func TestSofttpmIsTheReference(t *testing.T) {
	sim := open(t)
	soft := softtpm.New(&softtpm.Options{Banks: []softtpm.Bank{
		softtpm.SHA1(), softtpm.SHA256(), softtpm.SHA384(), softtpm.SHA512(),
	}})
	base := counter(t, sim) - counter(t, soft)
	sent := 0
	compare := func(name string, cmd []byte) {
		t.Helper()
		sent++
		want, err := sim.Send(bytes.Clone(cmd))
		if err != nil {
			t.Fatalf("%s: reference: %v", name, err)
		}
		got, err := soft.Send(bytes.Clone(cmd))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(got) >= 14 && binary.BigEndian.Uint32(cmd[6:]) == uint32(tpm2.TPMCCPCRRead) && got[9] == 0 {
			// The counters do not begin alike.
			binary.BigEndian.PutUint32(got[10:], binary.BigEndian.Uint32(got[10:])+base)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %x\nanswers %x\nwant    %x", name, cmd, got, want)
		}
	}
	for _, c := range commands() {
		compare(c.name, c.cmd)
	}
	// Every prefix of a good command, its size put right, and every byte changed.
	for _, c := range commands()[:4] {
		for n := 10; n < len(c.cmd); n++ {
			compare(c.name+" cut", resize(c.cmd[:n]))
		}
		for n := range 4 {
			compare(c.name+" longer", resize(append(bytes.Clone(c.cmd), make([]byte, n)...)))
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var digests []byte
		n := rnd.IntN(4) + 1
		for _, i := range rnd.Perm(4)[:n] {
			d := make([]byte, imalog.AlgSize(allBanks[i]))
			for k := range d {
				d[k] = byte(rnd.Uint32())
			}
			digests = binary.BigEndian.AppendUint16(digests, allBanks[i])
			digests = append(digests, d...)
		}
		compare("random extend", extendCommand(uint32(rnd.IntN(17)), n, digests))
		compare("random read", readCommand(rnd.Uint32()&0xffffff, allBanks[rnd.IntN(4):]...))
	}
	if sent < 500 {
		t.Errorf("only %d commands", sent)
	}
}

func counter(t *testing.T, tpm transport.TPM) uint32 {
	t.Helper()
	rsp, err := tpm2.PCRRead{}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return rsp.PCRUpdateCounter
}

func resize(cmd []byte) []byte {
	cmd = bytes.Clone(cmd)
	binary.BigEndian.PutUint32(cmd[2:], uint32(len(cmd)))
	return cmd
}

func command(tag tpm2.TPMST, cc tpm2.TPMCC, body []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(tag))
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(cc))
	return append(b, body...)
}

const password = "00000009" + "40000009" + "0000" + "00" + "0000"

func extendCommand(pcr uint32, n int, digests []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, pcr)
	auth, _ := hex.DecodeString(password)
	b = append(b, auth...)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return command(tpm2.TPMSTSessions, tpm2.TPMCCPCRExtend, append(b, digests...))
}

func readCommand(bits uint32, algs ...uint16) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(algs)))
	for _, alg := range algs {
		b = binary.BigEndian.AppendUint16(b, alg)
		b = append(b, 3, byte(bits), byte(bits>>8), byte(bits>>16))
	}
	return command(tpm2.TPMSTNoSessions, tpm2.TPMCCPCRRead, b)
}

type named struct {
	name string
	cmd  []byte
}

func commands() []named {
	raw := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			panic(err)
		}
		return b
	}
	sha1 := append([]byte{0, 4}, bytes.Repeat([]byte{0xa5}, 20)...)
	sha256 := append([]byte{0, 0xb}, bytes.Repeat([]byte{0x5a}, 32)...)
	both := append(bytes.Clone(sha1), sha256...)
	capability := func(s string) []byte { return command(tpm2.TPMSTNoSessions, tpm2.TPMCCGetCapability, raw(s)) }
	return []named{
		{"extend", extendCommand(10, 2, both)},
		{"read", readCommand(1<<10, allBanks...)},
		{"read many", readCommand(0xffffff, allBanks...)},
		{"banks", capability("000000050000000000000010")},
		{"no bank", capability("000000050000000000000000")},
		{"two banks", capability("000000050000000000000002")},
		{"another property", capability("000000050000000100000010")},
		{"read nothing", readCommand(0)},
		{"read no PCR", readCommand(0, allBanks...)},
		{"read a bank twice", readCommand(3, imalog.AlgSHA1, imalog.AlgSHA1)},
		{"read an unknown bank", readCommand(1, 0x12)},
		{"extend nothing", extendCommand(10, 0, nil)},
		{"extend a bank twice", extendCommand(10, 2, append(bytes.Clone(sha1), sha1...))},
		{"extend the null handle", extendCommand(0x40000007, 1, sha1)},
		{"extend PCR 16", extendCommand(16, 1, sha1)},
		{"extend PCR 17", extendCommand(17, 1, sha1)},
		{"extend PCR 23", extendCommand(23, 1, sha1)},
		{"extend PCR 24", extendCommand(24, 1, sha1)},
		{"extend an unknown bank", extendCommand(10, 1, append([]byte{0, 0x12}, make([]byte, 32)...))},
		{"too many digests", extendCommand(10, 1000, sha1)},
		{"extend without a session", command(tpm2.TPMSTNoSessions, tpm2.TPMCCPCRExtend, append(raw("0000000a00000001"), sha1...))},
		{"read with a session", command(tpm2.TPMSTSessions, tpm2.TPMCCPCRRead, raw(password+"00000000"))},
		{"start again", command(tpm2.TPMSTNoSessions, tpm2.TPMCCStartup, raw("0000"))},
		{"no such command", command(tpm2.TPMSTNoSessions, 0x11e, nil)},
		{"no such tag", command(0x1234, tpm2.TPMCCPCRRead, raw("00000000"))},
	}
}
