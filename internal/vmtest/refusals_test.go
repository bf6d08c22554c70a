//go:build linux

package vmtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imakexec/imakexec/handover"
	"github.com/imakexec/imakexec/imalog"
	"github.com/imakexec/imakexec/kexecseg"
	"github.com/imakexec/imakexec/kexecseg/linuximage"
)

// refusal is a way in which a machine refuses a handover.
type refusal struct {
	kernel string
	want   error
	sticky bool // until the machine is switched off

	// refuse brings the machine into that state, and undo out of it.
	refuse, undo func(*Guest)

	// process asks for the handover from a process that lacks a capability.
	process bool

	// damage changes the next kernel's image.
	damage func([]byte)
}

var refusals = map[string]refusal{
	"kexec_load_disabled": {
		kernel: "6.1", want: kexecseg.ErrDisabled, sticky: true,
		refuse: func(g *Guest) { g.WriteFile("/proc/sys/kernel/kexec_load_disabled", "1") },
	},
	"load limit": {
		kernel: "6.12", want: kexecseg.ErrLoadLimit, sticky: true,
		refuse: func(g *Guest) { g.WriteFile("/proc/sys/kernel/kexec_load_limit_reboot", "0") },
	},
	// Enough to load and to seal, and not to unload if something fails.
	"load limit of three": {
		kernel: "7.x", want: kexecseg.ErrLoadLimit, sticky: true,
		refuse: func(g *Guest) { g.WriteFile("/proc/sys/kernel/kexec_load_limit_reboot", "3") },
	},
	"lockdown": {
		kernel: "6.12", want: kexecseg.ErrLockdown, sticky: true,
		refuse: func(g *Guest) { g.WriteFile("/sys/kernel/security/lockdown", "integrity") },
	},
	"appraisal": {
		kernel: "6.12", want: kexecseg.ErrPolicy, sticky: true,
		refuse: func(g *Guest) {
			g.WriteFile(imaDir+"/policy", "appraise func=KEXEC_KERNEL_CHECK appraise_type=imasig\n")
		},
	},
	// The machine's processor has five levels of page tables, and they are in use.
	"no five levels": {
		kernel: "6.12", want: linuximage.ErrFormat,
		damage: func(kernel []byte) { kernel[0x236] &^= 1 << 5 }, // XLF_5LEVEL of xloadflags
	},
	"no CAP_SYS_BOOT": {kernel: "6.12", want: kexecseg.ErrPrivilege, process: true},
	"no securityfs": {
		kernel: "6.12", want: handover.ErrNoList,
		refuse: func(g *Guest) { g.Check(unix.Unmount("/sys/kernel/security", 0), "unmount") },
		undo: func(g *Guest) {
			g.Check(unix.Mount("securityfs", "/sys/kernel/security", "securityfs", 0, ""), "mount")
		},
	},
	// A kernel that was built without IMA has securityfs and no folder of IMA's in it.
	"no IMA": {
		kernel: "7.x", want: handover.ErrNoList,
		refuse: func(g *Guest) {
			g.Check(unix.Mount("tmpfs", "/sys/kernel/security", "tmpfs", 0, ""), "mount")
		},
		undo: func(g *Guest) { g.Check(unix.Unmount("/sys/kernel/security", 0), "unmount") },
	},
}

// refused is refused a handover, and then does one: at once, or after it was
// switched off and on.
var refused = Scenario{
	Name: "refused",
	Boots: []func(*Guest){func(g *Guest) {
		switch r := refusals[g.Arg("how")]; {
		case g.Boot == 0:
			refuse(g, r)
			if r.sticky {
				g.Reboot()
			}
			execute(g, load(g, nil))
		case !g.Last():
			execute(g, load(g, nil))
		default:
			arriveAs(g, handover.Complete)
			g.Capture("end")
		}
	}},
	Processes: map[string]func(*Guest){
		"unprivileged": func(g *Guest) {
			_, err := handover.Load(context.Background(), target(g), &handover.Options{TPM: g.TPM()})
			refusedWith(g, err, refusals[g.Arg("how")].want)
		},
	},
}

func refusedWith(g *Guest, err, want error) {
	g.Logf("%v", err)
	if !errors.Is(err, want) {
		g.Errorf("refused with %v, want %v", err, want)
	}
}

func refuse(g *Guest, r refusal) {
	ctx := context.Background()
	next := target(g) // reads files, which IMA measures
	if r.damage != nil {
		kernel := g.ReadFile(g.KernelPath(g.Boot + 1))
		r.damage(kernel)
		next.Kernel = bytes.NewReader(kernel)
	}
	list, pcrs := g.List(), g.PCRs()
	if r.refuse != nil {
		r.refuse(g)
	}
	switch {
	case r.process:
		g.Run("unprivileged", unix.CAP_SYS_BOOT)
	default:
		_, err := handover.Load(ctx, next, &handover.Options{TPM: g.TPM()})
		refusedWith(g, err, r.want)
	}
	if r.undo != nil {
		r.undo(g)
	}
	if now := g.List(); !bytes.Equal(now, list) {
		g.Errorf("the list grew from %d to %d bytes", len(list), len(now))
	}
	if now := g.PCRs(); !reflect.DeepEqual(now, pcrs) {
		g.Errorf("PCRs were %s\nand are %s", pcrs.text(), now.text())
	}
	if loaded, err := kexecseg.Loaded(os.DirFS("/")); err != nil || loaded {
		g.Errorf("loaded: %v, %v", loaded, err)
	}
	putList(g, "refused")
}

func TestRefusals(t *testing.T) {
	for how, r := range refusals {
		t.Run(how, func(t *testing.T) {
			kernels := []string{r.kernel, r.kernel}
			if r.sticky {
				kernels = append(kernels, r.kernel)
			}
			res := Run(t, Config{Scenario: "refused", Kernels: kernels, Args: map[string]string{"how": how}})
			Judge(t, res.Capture("end"))
		})
	}
}

// limited hands over with as many loads left as that takes.
var limited = Scenario{Name: "limited", Boots: []func(*Guest){
	func(g *Guest) {
		g.WriteFile("/proc/sys/kernel/kexec_load_limit_reboot", "4")
		execute(g, load(g, nil))
	},
	arrivesWhole,
}}

func TestLoadLimitOfFour(t *testing.T) {
	Judge(t, Run(t, Config{Scenario: "limited", Kernels: []string{"7.x", "7.x"}}).Capture("end"))
}

// bare hands over without being given a TPM.
var bare = Scenario{Name: "bare", Boots: []func(*Guest){
	func(g *Guest) {
		h := load(g, &handover.Options{})
		if p := h.Status().Proof; p.Proved != g.HasTPM() {
			g.Errorf("%v", p)
		}
		g.MeasureFiles(5, "between")
		g.Check(h.Seal(context.Background()), "seal")
		g.Put("sent0", g.List())
		g.Check(h.Execute(context.Background()), "execute")
	},
	func(g *Guest) {
		want := handover.Unproved
		if g.HasTPM() {
			want = handover.Complete
		}
		arriveAs(g, want)
		g.Capture("end")
	},
}}

// A machine without a TPM: the list is carried all the same, and nobody says that
// it is proved.
func TestNoTPM(t *testing.T) {
	for _, k := range []string{"6.1", "7.x"} {
		t.Run(k, func(t *testing.T) {
			res := Run(t, Config{Scenario: "bare", Kernels: []string{k, k}, NoTPM: true})
			c := res.Capture("end")
			carried(t, res, c, "sent0")
			inOrder(t, names(t, c.List()), append(files(5, "between"), "boot_aggregate")...)
			if _, err := imalog.Verify(t.Context(), imalog.Records(c.List(), nil), nil, nil); err != nil {
				t.Errorf("the list cannot be replayed: %v", err)
			}
		})
	}
}

// A machine with a TPM that the caller did not open: proved through the kernel's
// files, without events.
func TestTPMNotGiven(t *testing.T) {
	res := Run(t, Config{Scenario: "bare", Kernels: []string{"6.12", "6.12"}})
	c := res.Capture("end")
	Judge(t, c)
	carried(t, res, c, "sent0")
	inOrder(t, names(t, c.List()), append(files(5, "between"), "boot_aggregate")...)
}
