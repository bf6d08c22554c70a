// Package imakexec makes a kexec soft reboot attestable.
//
// TPM PCRs survive a kexec; the kernel's IMA measurement list does not. If one
// record is lost on the way, PCR 10 cannot be replayed and remote attestation
// fails until the next cold boot. Linux 6.16 allocates the list's buffer when the
// next kernel is loaded and fills it when it is executed, for kexec_file_load(2)
// and with CONFIG_IMA_KEXEC. The packages below do the same in user space, where
// the kernel cannot.
//
// # Packages
//
//   - [github.com/imakexec/imakexec/imalog]: one record, one list: decode, encode,
//     the kexec buffer, template digests, PCR replay. Standard library only, any
//     system: a verifier is often not Linux.
//   - [github.com/imakexec/imakexec/kexecseg]: memory map, segments and their
//     mapping, the digest that a purgatory verifies, the system calls; kexecseg/linuximage
//     plans a Linux kernel by its boot protocol.
//   - [github.com/imakexec/imakexec/events]: critical data built, parsed and
//     measured into a TPM, and the journal of what user space measured.
//   - [github.com/imakexec/imakexec/handover]: Load, Seal, Execute and Arrive, composed
//     of the three; handover/handovertest is a machine for tests.
//
// imalog and kexecseg know nothing of each other, nor of TPMs.
//
// # Lifetimes
//
// A handover lives from Load to the jump, and never longer than the boot. Load
// allocates the buffer and loads the image, with no list in it. Anything may be
// measured after that. Seal fills the buffer; from then on the machine should do
// nothing but jump, and Execute does. The process may end after Load: what Resume
// needs, and the journal of what user space has extended into PCR 10, lie in a
// state directory on a tmpfs. In the next kernel Arrive judges the list, as often
// as one likes; the state directory is gone or ignored by then.
//
// A record that user space extends is in the PCR at once and in a kernel's list
// only after the jump. Agents that attest in between read the list with ReadList.
package imakexec
