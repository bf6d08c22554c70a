//go:build linux

package vmtest

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// endings are the ways a guest can end other than well. The harness must tell each
// from success.
var endings = map[string]func(*Guest){
	"error":  func(g *Guest) { g.Errorf("told") },
	"fatal":  func(g *Guest) { g.Fatalf("told") },
	"panic":  func(g *Guest) { panic("told") },
	"child":  func(g *Guest) { g.Run("fails") },
	"exit":   func(g *Guest) { os.Exit(0) },
	"off":    func(g *Guest) { g.PowerOff() },
	"hang":   func(g *Guest) { time.Sleep(time.Hour) },
	"reboot": func(g *Guest) { g.Reboot() },
}

var ending = Scenario{
	Name:      "ending",
	Boots:     []func(*Guest){func(g *Guest) { endings[g.Arg("how")](g) }},
	Processes: map[string]func(*Guest){"fails": func(g *Guest) { g.Fatalf("told") }},
}

func TestEndings(t *testing.T) {
	for how := range endings {
		t.Run(how, func(t *testing.T) {
			c := Config{Scenario: "ending", Kernels: []string{"6.1"}, NoTPM: true, Args: map[string]string{"how": how}}
			if how == "hang" {
				c.Timeout = 10 * time.Second
			}
			res, err := run(t, c)
			switch how {
			case "error", "fatal", "panic", "child":
				if err != nil || !res.Failed || !strings.Contains(strings.Join(res.Log, "\n"), "told") {
					t.Errorf("error %v, failed %v, log %q", err, res.Failed, res.Log)
				}
			case "hang":
				if err == nil || !strings.Contains(err.Error(), "no end after 10s") {
					t.Errorf("error %v, want one about the time", err)
				}
			default:
				if err == nil {
					t.Error("taken for success")
				}
			}
			if how == "exit" && !strings.Contains(res.Console, "Attempted to kill init") {
				t.Errorf("no panic on the console: %q", res.Console)
			}
		})
	}
}

func TestMachineCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := RunMachine(ctx, &Config{Kernels: []string{"/none"}, Init: "/none"}); err == nil {
		t.Error("a machine ran under a context that had ended")
	}
}

// tools uses what the other scenarios rely on.
var tools = Scenario{
	Name: "tools",
	Boots: []func(*Guest){
		func(g *Guest) {
			g.Run("without boot capability", unix.CAP_SYS_BOOT)
			g.Capture("first")
			g.Reboot()
		},
		func(g *Guest) {
			if got := string(g.ReadFile("/data/note")); got != "carried" {
				g.Errorf("/data/note holds %q", got)
			}
			g.Capture("second")
		},
	},
	Processes: map[string]func(*Guest){
		"without boot capability": func(g *Guest) {
			if err := unix.Reboot(unix.LINUX_REBOOT_CMD_KEXEC); !errors.Is(err, unix.EPERM) {
				g.Errorf("reboot without CAP_SYS_BOOT: %v", err)
			}
			g.MeasureFiles(1, "child")
		},
	},
}

// After a reboot through the firmware the list and the TPM start afresh.
func TestReboot(t *testing.T) {
	res := Run(t, Config{
		Scenario: "tools",
		Kernels:  []string{"6.12", "6.12"},
		Files:    map[string][]byte{"note": []byte("carried")},
	})
	first, second := res.Capture("first"), res.Capture("second")
	Judge(t, first)
	Judge(t, second)
	if !strings.Contains(string(first["ascii_runtime_measurements"]), "/child-0 ") {
		t.Error("the child's file is not in the first boot's list")
	}
	if strings.Contains(string(second["ascii_runtime_measurements"]), "/child-0 ") {
		t.Error("the second boot's list holds the first one's records")
	}
	second["binary_runtime_measurements"] = first.List()
	JudgeLost(t, second)
}
