//go:build linux

package vmtest

import (
	"bytes"
	"fmt"
	"testing"
)

// measure boots a kernel, lets it measure ten files and takes its list.
var measure = Scenario{
	Name: "measure",
	Boots: []func(*Guest){func(g *Guest) {
		g.MeasureFiles(10, "file")
		g.Capture("end")
	}},
}

func TestKernelsMeasure(t *testing.T) {
	for _, kernel := range KernelNames() {
		t.Run(kernel, func(t *testing.T) {
			res := Run(t, Config{Scenario: "measure", Kernels: []string{kernel}})
			c := res.Capture("end")
			t.Logf("%s", c["version"])
			Judge(t, c)
			for i := range 10 {
				if !bytes.Contains(c["ascii_runtime_measurements"], fmt.Appendf(nil, " /file-%d ", i)) {
					t.Errorf("file %d was not measured", i)
				}
			}
		})
	}
}
