//go:build linux

package vmtest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// mirrorEnv is the address of a Debian mirror, for machines that are not Debian;
// there the mirror is the one that apt uses already.
const mirrorEnv = "IMAKEXEC_DEBIAN_MIRROR"

// debianKernel says where a stock kernel comes from: the newest version of
// linux-image-cloud-amd64 in these releases that starts with prefix.
type debianKernel struct {
	name     string
	releases []string
	prefix   string
}

// KernelNames are the stock Debian kernels that tests may ask for, oldest first.
func KernelNames() []string {
	var names []string
	for _, k := range debianKernels() {
		names = append(names, k.name)
	}
	return names
}

func debianKernels() []debianKernel {
	return []debianKernel{
		{"6.1", []string{"bookworm"}, "6.1."},
		{"6.12", []string{"bookworm-backports"}, "6.12."},
		{"7.x", []string{"trixie-backports", "sid"}, "7."},
	}
}

const metaPackage = "linux-image-cloud-amd64"

// kernelsEnv is a folder with more kernels, files named vmlinuz-NAME.
const kernelsEnv = "IMAKEXEC_KERNELS"

// ExtraKernels returns the names of the kernels in that folder; none if it is not
// given.
func ExtraKernels() []string {
	dir := os.Getenv(kernelsEnv)
	if dir == "" {
		return nil
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "vmlinuz-*")) // its pattern is well formed
	names := make([]string, len(paths))
	for i, path := range paths {
		names[i] = strings.TrimPrefix(filepath.Base(path), "vmlinuz-")
	}
	return names
}

// ErrNoMirror says that nothing tells where Debian's packages are.
var ErrNoMirror = errors.New("no Debian mirror known")

// Kernel returns the path of a kernel of ExtraKernels, or of a stock Debian kernel:
// from the user's cache, where it is put the first time. Deleting the cache (imakexec/kernels in
// os.UserCacheDir) brings the versions of that day. The packages are unpacked, never
// installed, and apt works with lists and a configuration of its own.
func Kernel(ctx context.Context, name string) (string, error) {
	if slices.Contains(ExtraKernels(), name) {
		return filepath.Abs(filepath.Join(os.Getenv(kernelsEnv), "vmlinuz-"+name))
	}
	return stockFile(ctx, name, "vmlinuz")
}

// EFIVarFS returns the path of a stock Debian kernel's module efivarfs, without which
// it shows no EFI variables. Guest.LoadModule takes it.
func EFIVarFS(ctx context.Context, name string) (string, error) {
	if slices.Contains(ExtraKernels(), name) {
		return "", fmt.Errorf("vmtest: no module of kernel %q", name)
	}
	return stockFile(ctx, name, "efivarfs")
}

// stockFiles are what is kept of a kernel's packages. Since 7.3 the kernel lies beside
// its modules, which some releases compress.
func stockFiles() map[string]*regexp.Regexp {
	return map[string]*regexp.Regexp{
		"vmlinuz":  regexp.MustCompile(`^\./(boot/vmlinuz-[^/]+|usr/lib/modules/[^/]+/vmlinuz)$`),
		"efivarfs": regexp.MustCompile(`^\./(usr/)?lib/modules/[^/]+/kernel/fs/efivarfs/efivarfs\.ko(\.xz)?$`),
	}
}

// stockFile returns the path of one of them. A module comes together with its kernel, so
// that they are of one version.
func stockFile(ctx context.Context, name, file string) (string, error) {
	i := slices.IndexFunc(debianKernels(), func(k debianKernel) bool { return k.name == name })
	if i < 0 {
		return "", fmt.Errorf("vmtest: no kernel %q, only %q and %q", name, KernelNames(), ExtraKernels())
	}
	dir, err := cacheDir("kernels")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, file+"-"+name)
	missing := func() bool {
		_, err := os.Stat(path)
		_, kernelErr := os.Stat(filepath.Join(dir, "vmlinuz-"+name))
		return err != nil || kernelErr != nil
	}
	if !missing() {
		return path, nil
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if missing() { // nobody else was faster
		if err := fetchKernel(ctx, debianKernels()[i], dir); err != nil {
			return "", fmt.Errorf("vmtest: kernel %s: %w", name, err)
		}
	}
	return path, nil
}

// lockFile waits for a file's lock. Closing it unlocks.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func fetchKernel(ctx context.Context, k debianKernel, dir string) error {
	a := apt{dir: filepath.Join(dir, "apt")}
	if err := a.setUp(ctx); err != nil {
		return err
	}
	version, err := a.newest(ctx, k)
	if err != nil {
		return err
	}
	// The meta package names the image's package; since 7.0 that one in turn names the
	// packages with the kernel and with its modules.
	deps, err := a.depends(ctx, metaPackage, version)
	if err != nil {
		return err
	}
	image := find(deps, `^linux-image-\d`)
	if image == "" {
		return fmt.Errorf("%s %s names no image: %q", metaPackage, version, deps)
	}
	if deps, err = a.depends(ctx, image, version); err != nil {
		return err
	}
	packages := []string{image}
	if binary := find(deps, `^linux-binary-\d`); binary != "" {
		packages = []string{binary, strings.Replace(binary, "binary", "modules", 1)}
	}
	left := stockFiles()
	for _, pkg := range packages {
		deb, err := a.download(ctx, pkg, version)
		if err != nil {
			return err
		}
		err = unpack(ctx, deb, left, filepath.Join(dir, "%s-"+k.name))
		os.Remove(deb)
		if err != nil {
			return err
		}
	}
	for file := range left {
		return fmt.Errorf("no %s in %q", file, packages)
	}
	return nil
}

func find(names []string, pattern string) string {
	i := slices.IndexFunc(names, regexp.MustCompile(pattern).MatchString)
	if i < 0 {
		return ""
	}
	return names[i]
}

// unpack takes the files that match out of a package and out of the map; format makes
// paths of their names. A file appears whole or not at all.
func unpack(ctx context.Context, deb string, files map[string]*regexp.Regexp, format string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { cancel(); cmd.Wait() }()
	for r := tar.NewReader(out); len(files) > 0; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for name, pattern := range files {
			if h.Typeflag != tar.TypeReg || !pattern.MatchString(h.Name) {
				continue
			}
			if err := writeWhole(fmt.Sprintf(format, name), r); err != nil {
				return err
			}
			delete(files, name)
		}
	}
	return nil
}

func writeWhole(path string, r io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(path), "new")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// apt works in a folder of its own, on Debian's releases and for amd64 whatever the
// machine's are.
type apt struct{ dir string }

func (a *apt) setUp(ctx context.Context) error {
	mirror, err := debianMirror(ctx)
	if err != nil {
		return err
	}
	for _, sub := range []string{"lists/partial", "cache/archives/partial", "etc"} {
		if err := os.MkdirAll(filepath.Join(a.dir, sub), 0o755); err != nil {
			return err
		}
	}
	var conf strings.Builder
	for _, o := range [][2]string{
		{"Dir::Etc", a.dir + "/etc/"}, {"Dir::Etc::main", "none"}, {"Dir::Etc::parts", a.dir + "/etc/"},
		{"Dir::Etc::sourcelist", a.dir + "/sources.list"}, {"Dir::Etc::sourceparts", a.dir + "/etc/"},
		{"Dir::Etc::preferences", "none"}, {"Dir::Etc::preferencesparts", a.dir + "/etc/"},
		{"Dir::State", a.dir}, {"Dir::State::lists", a.dir + "/lists"}, {"Dir::State::status", a.dir + "/status"},
		{"Dir::Cache", a.dir + "/cache"},
		{"APT::Architecture", "amd64"}, {"APT::Architectures", "amd64"},
		{"APT::Sandbox::User", "root"}, // its default user cannot write here
	} {
		fmt.Fprintf(&conf, "%s %q;\n", o[0], o[1])
	}
	machine, err := output(ctx, nil, "apt-config", "dump")
	if err != nil {
		return err
	}
	// How the machine reaches its mirrors: proxies and the like.
	for line := range strings.Lines(machine) {
		if strings.HasPrefix(line, "Acquire::") && !strings.HasPrefix(line, "Acquire::IndexTargets") {
			conf.WriteString(line)
		}
	}
	conf.WriteString(`Acquire::Languages "none"; Acquire::GzipIndexes "true"; Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";`)

	var sources strings.Builder
	for _, k := range debianKernels() {
		for _, release := range k.releases {
			fmt.Fprintf(&sources, "deb [signed-by=%s] %s %s main\n", debianKeyring, mirror, release)
		}
	}
	err = errors.Join(
		os.WriteFile(a.conf(), []byte(conf.String()), 0o644),
		os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(sources.String()), 0o644),
		os.WriteFile(filepath.Join(a.dir, "status"), nil, 0o644))
	if err != nil {
		return err
	}
	_, err = a.run(ctx, "apt-get", "update")
	return err
}

const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

func (a *apt) conf() string { return filepath.Join(a.dir, "apt.conf") }

func (a *apt) run(ctx context.Context, name string, args ...string) (string, error) {
	return output(ctx, []string{"APT_CONFIG=" + a.conf()}, name, args...)
}

// newest returns the newest version of the meta package in a kernel's releases.
func (a *apt) newest(ctx context.Context, k debianKernel) (string, error) {
	out, err := a.run(ctx, "apt-cache", "madison", metaPackage)
	if err != nil {
		return "", err
	}
	if version := newestIn(out, k); version != "" {
		return version, nil
	}
	return "", fmt.Errorf("no %s %s* in %v", metaPackage, k.prefix, k.releases)
}

// newestIn reads what "apt-cache madison" prints: lines "package | version | mirror
// release/main amd64 Packages", newest first.
func newestIn(madison string, k debianKernel) string {
	for line := range strings.Lines(madison) {
		f := strings.Split(line, "|")
		if len(f) != 3 {
			continue
		}
		version, where := strings.TrimSpace(f[1]), strings.Fields(f[2])
		if len(where) < 2 || !strings.HasPrefix(version, k.prefix) {
			continue
		}
		if release, _, _ := strings.Cut(where[1], "/"); slices.Contains(k.releases, release) {
			return version
		}
	}
	return ""
}

// depends returns the names of the packages that one depends on.
func (a *apt) depends(ctx context.Context, pkg, version string) ([]string, error) {
	out, err := a.run(ctx, "apt-cache", "show", pkg+"="+version)
	if err != nil {
		return nil, err
	}
	return dependsIn(out), nil
}

// dependsIn reads the names in a package's Depends line.
func dependsIn(show string) []string {
	var names []string
	for line := range strings.Lines(show) {
		list, ok := strings.CutPrefix(line, "Depends:")
		if !ok {
			continue
		}
		for _, dep := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '|' }) {
			if f := strings.Fields(dep); len(f) > 0 {
				names = append(names, f[0])
			}
		}
	}
	return names
}

// download returns the path of a package that apt has checked.
func (a *apt) download(ctx context.Context, pkg, version string) (string, error) {
	dir := filepath.Join(a.dir, "cache")
	cmd := exec.CommandContext(ctx, "apt-get", "download", pkg+"="+version)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "APT_CONFIG="+a.conf(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get download %s: %w\n%s", pkg, err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, pkg+"_*.deb"))
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("apt-get download %s left %q", pkg, found)
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}

// debianMirror returns the mirror that this machine's apt uses for Debian, or the
// one in the environment.
func debianMirror(ctx context.Context) (string, error) {
	if m := os.Getenv(mirrorEnv); m != "" {
		return m, nil
	}
	out, err := output(ctx, nil, "apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)", "Created-By: Packages")
	if err != nil {
		return "", fmt.Errorf("%w: %w; set %s", ErrNoMirror, err, mirrorEnv)
	}
	for line := range strings.Lines(out) {
		// The archive itself; security updates have a label and a mirror of their own.
		if f := strings.Fields(line); len(f) == 3 && f[1] == "Debian" && f[2] == "Debian" {
			return f[0], nil
		}
	}
	return "", fmt.Errorf("%w: apt uses none on this %s machine; set %s", ErrNoMirror, runtime.GOOS, mirrorEnv)
}

// output runs a program and returns what it prints.
func output(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, &said)
	}
	return out.String(), nil
}
