//go:build linux

package vmtest

import (
	"slices"
	"testing"
)

func TestNewestKernel(t *testing.T) {
	const madison = `linux-image-cloud-amd64 | 7.3.4-1~bpo13+1 | http://mirror.test/debian trixie-backports/main amd64 Packages
linux-image-cloud-amd64 |   7.2.13-1 | http://mirror.test/debian sid/main amd64 Packages
linux-image-cloud-amd64 | 6.12.95-1~bpo12+1 | http://mirror.test/debian bookworm-backports/main amd64 Packages
linux-image-cloud-amd64 |  6.1.176-1 | http://mirror.test/debian bookworm/main amd64 Packages
`
	want := map[string]string{"6.1": "6.1.176-1", "6.12": "6.12.95-1~bpo12+1", "7.x": "7.3.4-1~bpo13+1"}
	for _, k := range debianKernels() {
		if got := newestIn(madison, k); got != want[k.name] {
			t.Errorf("kernel %s: version %q, want %q", k.name, got, want[k.name])
		}
	}
	if got := newestIn("", debianKernels()[0]); got != "" {
		t.Errorf("version %q of nothing", got)
	}
}

func TestKernelPackage(t *testing.T) {
	deps := dependsIn("Package: x\nDepends: dracut | linux-initramfs-tool, linux-base-7.2 (= 7.2-1), linux-binary-7.2+deb14-cloud-amd64 (= 7.2-1)\n")
	want := []string{"dracut", "linux-initramfs-tool", "linux-base-7.2", "linux-binary-7.2+deb14-cloud-amd64"}
	if !slices.Equal(deps, want) {
		t.Errorf("depends on %q, want %q", deps, want)
	}
	if got := find(deps, `^linux-binary-\d`); got != want[3] {
		t.Errorf("found %q", got)
	}
}
