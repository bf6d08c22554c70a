# Needs Go and, for what is not there yet, Debian or Ubuntu with root or sudo.

STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.6.1
NESTED = $(shell find . -mindepth 2 -name go.mod -exec dirname {} \;)
TESTFLAGS =

.PHONY: demo test lint fuzz bench soak vm install simulator

# Plain kexec and this module side by side: no root, no virtual machine, no TPM.
demo: simulator
	@go run ./examples/softreboot

# Everything, with the virtual machines; nothing may be skipped.
test: export IMAKEXEC_TEST = all
test: install lint fuzz
	set -e; export GOWORK=off; for m in $(NESTED); do (cd $$m && go test $(TESTFLAGS) ./...); done
	go test -race -timeout 30m $(TESTFLAGS) ./...

lint: simulator
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt -w $$unformatted"; exit 1; }
	set -e; for os in linux darwin windows; do for arch in amd64 arm64; do \
		GOOS=$$os GOARCH=$$arch CGO_ENABLED=0 go vet ./...; done; done
	$(STATICCHECK) ./...
	set -e; export GOWORK=off; for m in $(NESTED); do (cd $$m && go vet ./... && $(STATICCHECK) ./...); done

# FUZZTIME=10m make fuzz: for a long run.
FUZZTIME = 3s
fuzz:
	.ci/fuzz $(FUZZTIME)

# Each figure beside its floor, and beside evmctl.
bench: install
	go test -run '^$$' -bench . ./imalog ./events ./kexecseg/... ./handover

# Sixteen handovers under KASLR.
soak: export IMAKEXEC_TEST = all
soak: install
	go test -count=1 -timeout 60m -v -run '^TestKASLR$$' ./internal/vmtest -kaslr 16

# The whole story in a virtual machine, for a person to watch.
vm: install
	go run ./examples/vm

install: simulator
	internal/vmtest/install.sh

# The TPM simulator is C and links OpenSSL; the race detector wants gcc, too.
simulator:
	@echo '#include <openssl/sha.h>' | gcc -E - >/dev/null 2>&1 || \
		internal/vmtest/install.sh gcc libc6-dev libssl-dev
