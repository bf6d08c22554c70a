//go:build linux

package vmtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"golang.org/x/sys/unix"
)

// Guest is what a scenario's function sees of its machine. Its methods fail the
// test when something goes wrong that is no business of the scenario's.
type Guest struct {
	Boot    int // number of this boot, from 0
	story   story
	process string // name of this process's function; "" for process 1
	wire    *os.File
	tpm     transport.TPMCloser
}

// guestExit unwinds a scenario's function.
type guestExit struct{}

// RunGuest is Main's other half, for a program that is no test: it returns false
// unless it runs in a guest, where it does not return.
func RunGuest(scenarios ...Scenario) bool {
	if os.Getenv(bootEnv) == "" || (os.Getpid() != 1 && os.Getenv(processEnv) == "") {
		return false
	}
	guestMain(scenarios)
	return true
}

func guestMain(scenarios []Scenario) {
	g := &Guest{process: os.Getenv(processEnv)}
	if g.process == "" {
		if err := setUp(); err != nil {
			panicKernel(err)
		}
	}
	if err := g.open(); err != nil {
		panicKernel(err)
	}
	ok := g.play(scenarios)
	if g.process != "" {
		os.Exit(b2i(!ok))
	}
	g.send(msgDone, "", nil)
	g.PowerOff()
}

// panicKernel ends a guest that cannot even talk: without process 1 the kernel
// panics, and with it goes the machine.
func panicKernel(err error) {
	fmt.Fprintln(os.Stderr, "vmtest:", err)
	os.Exit(1)
}

// setUp mounts what a guest has.
func setUp() error {
	os.Setenv("PATH", "/")
	os.Setenv("HOME", "/tmp")
	for _, m := range []struct{ fstype, dir string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"devtmpfs", "/dev"},
		{"securityfs", "/sys/kernel/security"},
		{"tmpfs", "/run"},
		{"tmpfs", "/tmp"},
	} {
		if err := unix.Mount(m.fstype, m.dir, m.fstype, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	return nil
}

func (g *Guest) open() error {
	var err error
	if g.Boot, err = strconv.Atoi(os.Getenv(bootEnv)); err != nil {
		return err
	}
	if err := json.Unmarshal(readFile("/"+storyFile), &g.story); err != nil {
		return fmt.Errorf("%s: %w", storyFile, err)
	}
	if g.wire, err = os.OpenFile(wirePort(), os.O_WRONLY|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	return makeRaw(g.wire)
}

// makeRaw keeps the line discipline from touching what is written.
func makeRaw(f *os.File) error {
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	return unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
}

// play runs this process's function and reports whether it ended well.
func (g *Guest) play(scenarios []Scenario) (ok bool) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case guestExit:
			ok = false
		default:
			g.Errorf("panic: %v\n%s", e, debug.Stack())
			ok = false
		}
	}()
	for _, s := range scenarios {
		if s.Name != g.story.Scenario {
			continue
		}
		if g.process != "" {
			f := s.Processes[g.process]
			if f == nil {
				g.Fatalf("scenario %q has no process %q", s.Name, g.process)
			}
			f(g)
			return true
		}
		g.send(msgBoot, strconv.Itoa(g.Boot), nil)
		s.Boots[min(g.Boot, len(s.Boots)-1)](g)
		if !g.Last() {
			g.Fatalf("boot %d returned instead of going on to the next", g.Boot)
		}
		return true
	}
	g.Fatalf("no scenario %q", g.story.Scenario)
	return false
}

// send writes one message and waits until it has left the machine. Processes of a
// guest take turns.
func (g *Guest) send(kind byte, name string, data []byte) {
	lock, err := os.OpenFile("/run/wire.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		panicKernel(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		panicKernel(err)
	}
	m := message{kind, name, data}
	if _, err := g.wire.Write(m.append(nil)); err != nil {
		panicKernel(err)
	}
	for {
		err := unix.IoctlSetInt(int(g.wire.Fd()), unix.TCSBRK, 1) // tcdrain(3)
		if err == nil {
			return
		}
		if err != unix.EINTR { // a signal of Go's own scheduler
			panicKernel(err)
		}
	}
}

// Put sends an artifact to the host, where it is in Result.Files.
func (g *Guest) Put(name string, data []byte) { g.send(msgFile, name, data) }

// Logf reports to the test's log and prints on the guest's console.
func (g *Guest) Logf(format string, args ...any) {
	g.say(msgLog, format, args...)
}

// Errorf fails the test and goes on.
func (g *Guest) Errorf(format string, args ...any) {
	g.say(msgError, format, args...)
}

// Fatalf fails the test and switches the machine off; in a process started with
// Run it ends that process.
func (g *Guest) Fatalf(format string, args ...any) {
	g.say(msgError, format, args...)
	panic(guestExit{})
}

// Check fails the test for an error; what says what was being done.
func (g *Guest) Check(err error, what string) {
	if err != nil {
		g.Fatalf("%s: %v", what, err)
	}
}

func (g *Guest) say(kind byte, format string, args ...any) {
	who := fmt.Sprintf("boot %d", g.Boot)
	if g.process != "" {
		who += ", " + g.process
	}
	s := who + ": " + strings.TrimRight(fmt.Sprintf(format, args...), "\n")
	fmt.Fprintln(os.Stderr, s)
	g.send(kind, "", []byte(s))
	if kind == msgError {
		g.Put(fmt.Sprintf("failed%d/dmesg.txt", g.Boot), dmesg())
	}
}

// Arg returns one of Config.Args.
func (g *Guest) Arg(name string) string { return g.story.Args[name] }

// Last reports whether this is the last boot.
func (g *Guest) Last() bool { return g.Boot >= len(g.story.Kernels)-1 }

// KernelPath is where the kernel of a later boot lies.
func (g *Guest) KernelPath(boot int) string { return "/" + g.story.Kernels[boot] }

// NextCmdline is this boot's command line with the number of the next, so that the
// next kernel's guest knows its place. Extra arguments are appended.
func (g *Guest) NextCmdline(extra ...string) string {
	var next []string
	for _, arg := range strings.Fields(string(g.ReadFile("/proc/cmdline"))) {
		if strings.HasPrefix(arg, bootEnv+"=") {
			arg = fmt.Sprintf("%s=%d", bootEnv, g.Boot+1)
		}
		next = append(next, arg)
	}
	return strings.Join(append(next, extra...), " ")
}

// Initramfs makes one like the one that this guest came from: the same init, and
// what lies in /boot and /data.
func (g *Guest) Initramfs() []byte {
	init := g.ReadFile("/init")
	paths, size := []string{"/" + storyFile}, len(init)
	for _, dir := range []string{"/boot", "/data"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			fi, err := d.Info()
			if err != nil {
				return err
			}
			paths, size = append(paths, path), size+int(fi.Size())
			return nil
		})
		g.Check(err, "walk "+dir)
	}
	b := bytes.NewBuffer(make([]byte, 0, size+1<<16)) // a guest's memory is small
	w := newCPIOWriter(b)
	guestRoot(w, init)
	for _, path := range paths {
		w.file(path[1:], 0o644, g.ReadFile(path))
	}
	g.Check(w.Close(), "make initramfs")
	return b.Bytes()
}

// MeasureFiles creates n files on the root, which IMA measures, and reads each:
// n records. It returns their paths, "/PREFIX-0" and on.
func (g *Guest) MeasureFiles(n int, prefix string) []string {
	paths := make([]string, n)
	for i := range paths {
		paths[i] = fmt.Sprintf("/%s-%d", prefix, i)
		g.Check(os.WriteFile(paths[i], []byte(paths[i]), 0o644), "create")
		g.ReadFile(paths[i])
	}
	return paths
}

// ReadFile reads a file whole.
func (g *Guest) ReadFile(path string) []byte {
	b, err := os.ReadFile(path)
	g.Check(err, "read")
	return b
}

// WriteFile writes a file that exists, such as a sysctl.
func (g *Guest) WriteFile(path, data string) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	g.Check(err, "write")
	_, err = io.WriteString(f, data)
	g.Check(errors.Join(err, f.Close()), "write "+path)
}

// LoadModule loads a module of the running kernel's, as it is or compressed with xz.
func (g *Guest) LoadModule(path string) {
	f, err := os.Open(path)
	g.Check(err, "open module")
	defer f.Close()
	flags, magic := 0, make([]byte, 6)
	if _, err := io.ReadFull(f, magic); err == nil && string(magic) == "\xfd7zXZ\x00" {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	g.Check(unix.FinitModule(int(f.Fd()), "", flags), "load module "+path)
}

// HasTPM reports whether the machine has one.
func (g *Guest) HasTPM() bool {
	_, err := os.Stat("/dev/tpm0")
	return err == nil
}

// TPM is the machine's, opened once: the kernel's resource manager if there is one.
func (g *Guest) TPM() transport.TPM {
	if g.tpm == nil {
		tpm, err := linuxtpm.Open("/dev/tpmrm0")
		if errors.Is(err, os.ErrNotExist) {
			tpm, err = linuxtpm.Open("/dev/tpm0")
		}
		g.Check(err, "open TPM")
		g.tpm = tpm
	}
	return g.tpm
}

// CloseTPM closes what TPM opened.
func (g *Guest) CloseTPM() {
	if g.tpm != nil {
		g.Check(g.tpm.Close(), "close TPM")
		g.tpm = nil
	}
}

// Run runs one of the scenario's Processes in a process of its own and waits for
// its end. dropped capabilities (unix.CAP_...) are taken from it for good. The
// scenario fails if the process does.
func (g *Guest) Run(name string, dropped ...uintptr) {
	if err := g.Start(name, dropped...).Wait(); err != nil {
		g.Fatalf("process %s: %v", name, err)
	}
}

// Start is Run without waiting.
func (g *Guest) Start(name string, dropped ...uintptr) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), processEnv+"="+name)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	started := make(chan error)
	go func() {
		if len(dropped) > 0 {
			runtime.LockOSThread() // and never unlocked: the thread is of no more use
		}
		for _, c := range dropped {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
				started <- err
				return
			}
		}
		started <- cmd.Start()
	}()
	g.Check(<-started, "start process "+name)
	return cmd
}

// Reboot switches the machine off and on again through its firmware: the first
// kernel boots, with the next boot's number. The TPM starts afresh.
func (g *Guest) Reboot() {
	g.send(msgReboot, "", nil)
	g.Check(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART), "reboot")
}

// PowerOff ends the machine. A scenario's last boot need not call it.
func (g *Guest) PowerOff() {
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		panicKernel(err)
	}
	select {} // the other processors run on for a moment
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// readFile returns nil for a file that cannot be read.
func readFile(path string) []byte {
	b, _ := os.ReadFile(path)
	return b
}
