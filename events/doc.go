// Package events builds, reads, measures and judges IMA critical data: the
// records by which a kernel, or user space in its place, says in the measurement
// list what it is about to do.
//
// # Records
//
// Critical data is a record of template ima-buf: the digest of a buffer (d-ng),
// the event's name (n-ng) and the buffer itself (buf). NewRecord makes one as the
// kernel does, byte for byte; ParseEvent and ParseFigures read one. Linux 6.16
// and later measure two of them around a kexec, kexec_load and kexec_execute,
// whose payload is Figures.
//
// # Measuring
//
// A Measurer extends such a record into a PCR that the kernel goes on extending
// too. It reads the PCR, appends the record to a Journal and syncs it, extends
// all banks by one TPM2_PCR_Extend, and reads the PCR again. Whatever fails, the
// record is extended once at most, the journal has it before the PCR does, and
// the caller is told which of Done, NotDone and Unknown it was.
//
// From the extend until the record is in the kernel's list, which only a kexec
// can bring about, the list alone does not replay. Whoever attests in between
// calls Splice, which finds where the journaled records belong among the
// kernel's: there is one place only from which the replay leads to the PCR's
// value, and the PCR proves it in every bank.
//
// # The journal
//
// A journal is a file journal-<boot id>.jsonl, mode 0600, in a directory of mode
// 0700. It is written with O_APPEND only, one JSON object a line, and may be read
// at any time. There are two sorts of lines. An entry is written and synced
// before its record is extended:
//
//	seq      number of the entry in this boot, from 1
//	boot_id  /proc/sys/kernel/random/boot_id
//	time     RFC 3339
//	pcr      the PCR's index
//	name     the event's name, for people
//	record   the record as in binary_runtime_measurements, base64
//	count    records in the kernel's list at that time
//	before   the PCR just before, hexadecimal, by bank
//	writer   who wrote it: id, pid, and start, when the process started
//
// An outcome follows when the measurement is over:
//
//	seq, boot_id, time
//	state    extended, dropped (the TPM refused it), or unknown
//	after    the PCR just after, where state is extended and it could be read
//
// A bank is named as the kernel names it, "sha256", and by its TPM_ALG_ID,
// "0x0027", if it has no name. A reader holds to these rules:
//
//   - The last line does not count before its newline is there.
//   - A line that is not JSON does not count: a full disk or a kill tore it, and
//     nothing was extended for it. Writers end such a line with "#torn".
//   - Of two entries with the same seq the first counts. Two processes wrote at
//     the same time, and the second has seen it and extended nothing.
//   - A line of another boot_id does not count.
//   - An entry without an outcome may or may not be in the PCR. Splice knows.
//
// # Judging
//
// Audit tells for each boot in a list whether it was cold or a soft reboot, and
// whether records were lost on it: from what the kexec events count, and, when it
// is given the PCR's value, from what that proves.
package events
