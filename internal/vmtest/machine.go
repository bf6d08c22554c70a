//go:build linux

package vmtest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config describes a machine and the scenario that it plays. Init, Scenario and
// Kernels are needed; the zero value of everything else is right for most.
type Config struct {
	Scenario string

	// Kernels holds the path of a kernel for each boot. QEMU starts the first; the
	// others are in the guest's initramfs, see Guest.KernelPath.
	Kernels []string

	// Init is the program that becomes process 1: static, and ending up in Main or
	// RunGuest. Run builds the test package for it.
	Init string

	Arch    string            // "amd64" or "arm64"; "" means amd64
	Banks   []string          // of the TPM; nil means sha1 and sha256
	NoTPM   bool              // a machine without a TPM
	Memory  int               // MiB; 0 means 1024
	CPUs    int               // 0 means 1
	Policy  string            // ima_policy=; "" means tcb and critical_data
	Cmdline string            // added to the first kernel's command line
	QEMU    []string          // added to QEMU's arguments
	Args    map[string]string // for the scenario, see Guest.Arg
	Files   map[string][]byte // added to the guest's root, below /data
	Timeout time.Duration     // of the whole; 0 means 3 minutes for each boot
	Console io.Writer         // gets the console while it runs; may be nil
}

// Result is what a machine left behind.
type Result struct {
	Console string            // the end of what all its kernels printed
	Files   map[string][]byte // what the guest sent, by name
	Log     []string          // Guest.Logf and Errorf, in order
	Boots   []int             // the boots that began
	Failed  bool              // the guest reported an error
	Elapsed time.Duration     // without waiting for its turn
}

// RunMachine plays a scenario from power-on to power-off. Its error tells what went
// wrong with the machine: it died, hung, or left the scenario unfinished. What the
// guest found wrong is in the Result, which is never nil.
func RunMachine(ctx context.Context, c *Config) (*Result, error) {
	res := &Result{Files: make(map[string][]byte)}
	if len(c.Kernels) == 0 || c.Init == "" {
		return res, errors.New("vmtest: a machine needs kernels and an init")
	}
	slot, err := takeSlot(ctx)
	if err != nil {
		return res, err
	}
	defer slot.Close()
	begin := time.Now()
	defer func() { res.Elapsed = time.Since(begin) }()

	timeout := c.Timeout
	if timeout == 0 {
		timeout = time.Duration(len(c.Kernels)) * 3 * time.Minute
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout,
		fmt.Errorf("vmtest: no end after %v", timeout))
	defer cancel()

	dir, err := os.MkdirTemp("", "vmtest") // short: paths of sockets have 108 bytes at most
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(dir)
	if err := c.writeInitramfs(filepath.Join(dir, "initrd")); err != nil {
		return res, err
	}
	state := filepath.Join(dir, "tpm")
	if !c.NoTPM {
		banks := c.Banks
		if banks == nil {
			banks = []string{"sha1", "sha256"}
		}
		if err := manufactureTPM(ctx, state, banks); err != nil {
			return res, err
		}
	}
	var console tail
	defer func() { res.Console = console.String() }()
	out := io.Writer(&console)
	if c.Console != nil {
		out = io.MultiWriter(out, c.Console)
	}
	for boot := 0; ; {
		end, err := c.powerOn(ctx, dir, state, boot, out, res)
		if err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("%w (last boot: %v)", context.Cause(ctx), res.Boots)
			}
			return res, err
		}
		if end == msgDone {
			return res, nil
		}
		boot = len(res.Boots) // it was switched off and goes on with the next boot
	}
}

// powerOn runs QEMU once and returns how the guest ended: msgDone or msgReboot.
func (c *Config) powerOn(ctx context.Context, dir, state string, boot int, console io.Writer, res *Result) (byte, error) {
	args := c.qemuArgs(dir, boot)
	if !c.NoTPM {
		tpm, socket, err := startTPM(ctx, state)
		if err != nil {
			return 0, err
		}
		defer tpm.stop()
		args = append(args, "-chardev", "socket,id=tpm,path="+socket,
			"-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", c.tpmDevice()+",tpmdev=tpm0")
	}
	// QEMU connects to both at its start.
	consoleAt, err := net.Listen("unix", filepath.Join(dir, "console"))
	if err != nil {
		return 0, err
	}
	defer consoleAt.Close()
	wireAt, err := net.Listen("unix", filepath.Join(dir, "wire"))
	if err != nil {
		return 0, err
	}
	defer wireAt.Close()
	qemu, err := startProcess(c.qemuBinary(), args...)
	if err != nil {
		return 0, err
	}
	defer qemu.stop()

	var readers sync.WaitGroup
	readers.Add(2)
	go func() {
		defer readers.Done()
		if conn, err := consoleAt.Accept(); err == nil {
			io.Copy(console, conn)
			conn.Close()
		}
	}()
	var end byte
	var endErr error
	go func() {
		defer readers.Done()
		if conn, err := wireAt.Accept(); err == nil {
			end, endErr = res.collect(bufio.NewReaderSize(conn, 1<<16))
			conn.Close()
		}
	}()
	select {
	case <-qemu.done:
	case <-ctx.Done():
		qemu.stop()
	}
	// QEMU has closed its ends, so that both readers come to theirs; closing ours
	// frees those that it never connected to.
	consoleAt.Close()
	wireAt.Close()
	readers.Wait()
	switch {
	case qemu.err != nil:
		return 0, qemu.failed()
	case endErr != nil:
		return 0, endErr
	case end == 0:
		return 0, fmt.Errorf("vmtest: the machine went down in boot %v without a word", res.Boots)
	case end == msgDone && len(res.Boots) != len(c.Kernels) && !res.Failed:
		return 0, fmt.Errorf("vmtest: the scenario ended after boots %v of %d", res.Boots, len(c.Kernels))
	case end == msgReboot && len(res.Boots) >= len(c.Kernels):
		return 0, errors.New("vmtest: reboot after the last boot")
	}
	return end, nil
}

// collect reads what the guest sends until the machine is switched off, and returns
// the kind of its last words.
func (res *Result) collect(r *bufio.Reader) (byte, error) {
	var end byte
	for {
		m, err := readMessage(r)
		if err == io.EOF {
			return end, nil
		}
		if err != nil {
			return 0, err
		}
		end = 0
		switch m.kind {
		case msgBoot:
			n, err := strconv.Atoi(m.name)
			if err != nil || n != len(res.Boots) {
				return 0, fmt.Errorf("vmtest: boot %q after %v", m.name, res.Boots)
			}
			res.Boots = append(res.Boots, n)
		case msgFile:
			res.Files[m.name] = m.data
		case msgLog:
			res.Log = append(res.Log, string(m.data))
		case msgError:
			res.Log = append(res.Log, "ERROR: "+string(m.data))
			res.Failed = true
		case msgDone, msgReboot:
			end = m.kind
		default:
			return 0, fmt.Errorf("vmtest: %w: kind %q", errWire, m.kind)
		}
	}
}

// writeInitramfs writes what the first kernel unpacks.
func (c *Config) writeInitramfs(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	init, err := os.ReadFile(c.Init)
	if err != nil {
		return err
	}
	w := newCPIOWriter(f)
	guestRoot(w, init)
	st := story{Scenario: c.Scenario, Args: c.Args, Kernels: make([]string, len(c.Kernels))}
	for i, path := range c.Kernels {
		if i == 0 {
			continue // QEMU has it
		}
		if same := slices.Index(c.Kernels[1:i], path); same >= 0 {
			st.Kernels[i] = st.Kernels[same+1]
			continue
		}
		kernel, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		st.Kernels[i] = fmt.Sprintf("boot/vmlinuz-%d", i)
		w.file(st.Kernels[i], 0o644, kernel)
	}
	told, err := json.Marshal(st)
	if err != nil {
		return err
	}
	w.file(storyFile, 0o644, told)
	for name, data := range c.Files {
		w.file("data/"+name, 0o644, data)
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

// guestRoot writes what every guest's root has.
func guestRoot(w *cpioWriter, init []byte) {
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "boot", "data"} {
		w.dir(dir)
	}
	w.char("dev/console", 0o600, 5, 1)
	w.file("init", 0o755, init)
}

const storyFile = "story.json"

// story is what a guest is told beside its command line.
type story struct {
	Scenario string
	Kernels  []string // where the kernel of each boot lies; "" for the first
	Args     map[string]string
}

func (c *Config) cmdline(boot int) string {
	policy := c.Policy
	if policy == "" {
		policy = "tcb|critical_data"
	}
	// no_timer_check: the kernel panics when no timer interrupt arrives within ten
	// jiffies, which on a busy host says nothing.
	return strings.TrimSpace(fmt.Sprintf("console=%s panic=-1 reboot=k no_timer_check rootfstype=ramfs quiet loglevel=4 ima_policy=%s %s=%d %s",
		c.console(), policy, bootEnv, boot, c.Cmdline))
}

func (c *Config) arm64() bool { return c.Arch == "arm64" }

func (c *Config) console() string {
	if c.arm64() {
		return "ttyAMA0"
	}
	return "ttyS0"
}

func (c *Config) tpmDevice() string {
	if c.arm64() {
		return "tpm-tis-device"
	}
	return "tpm-tis"
}

func (c *Config) qemuBinary() string {
	if c.arm64() {
		return "qemu-system-aarch64"
	}
	return "qemu-system-x86_64"
}

// accelEnv names QEMU's accelerator; "tcg" if unset, which every machine has.
const accelEnv = "IMAKEXEC_VM_ACCEL"

func (c *Config) qemuArgs(dir string, boot int) []string {
	accel := os.Getenv(accelEnv)
	if accel == "" {
		accel = "tcg"
	}
	args := []string{"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-accel", accel,
		"-m", strconv.Itoa(cmp.Or(c.Memory, 1024)),
		"-smp", strconv.Itoa(cmp.Or(c.CPUs, 1)),
		"-chardev", "socket,id=console,path=" + filepath.Join(dir, "console"),
		"-chardev", "socket,id=wire,path=" + filepath.Join(dir, "wire"),
		"-serial", "chardev:console",
		"-kernel", c.Kernels[0], "-initrd", filepath.Join(dir, "initrd"),
		"-append", c.cmdline(boot),
	}
	if c.arm64() {
		args = append(args, "-machine", "virt", "-cpu", "cortex-a72",
			"-device", "pci-serial,chardev=wire")
	} else {
		// Linux 6.12 uses cmpxchg16b where the CPU has it, and QEMU 7.2 gets that
		// wrong under TCG: one boot in three crashes.
		args = append(args, "-machine", "q35", "-cpu", "max,-cx16", "-serial", "chardev:wire")
	}
	return append(args, c.QEMU...)
}

// wirePort is the guest's end of the wire.
func wirePort() string {
	// On arm64 the console is not an 8250, so that the only one is the wire.
	if bytes.Contains(readFile("/proc/cmdline"), []byte("console=ttyAMA0")) {
		return "/dev/ttyS0"
	}
	return "/dev/ttyS1"
}
