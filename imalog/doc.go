// Package imalog reads, writes and replays the measurement lists of Linux IMA,
// the Integrity Measurement Architecture: all that a kernel can write, as the
// kernel writes it. It needs nothing but the standard library and works on any
// system: a verifier is often not Linux.
//
// # The list
//
// The kernel shows its list in securityfs, readable by root, oldest record
// first:
//
//	/sys/kernel/security/ima/binary_runtime_measurements            binary, SHA-1 template digests
//	/sys/kernel/security/ima/binary_runtime_measurements_<alg>      the same, another digest (6.10)
//	/sys/kernel/security/ima/binary_runtime_measurements_..._staged staged for deletion (7.2): read it first
//	/sys/kernel/security/ima/ascii_runtime_measurements...          the same as text
//	/sys/kernel/security/ima/runtime_measurements_count             number of records, without staged ones
//
// A record in binary form, integers in the kernel's byte order, or little-endian
// with ima_canonical_fmt:
//
//	u32  PCR                     10 unless a policy says otherwise
//	     template digest         20 bytes, or those of <alg>; zeros: a violation
//	u32  length of the name
//	     template name           without NUL; the field format if it has no name
//	u32  length of the data      absent for template "ima"
//	     template data           for each field: u32 length, then its bytes
//
// Template names and their fields:
//
//	ima         d|n                      the oldest: d is 20 bytes without a length, n has no NUL
//	ima-ng      d-ng|n-ng
//	ima-sig     d-ng|n-ng|sig
//	ima-ngv2    d-ngv2|n-ng
//	ima-sigv2   d-ngv2|n-ng|sig
//	ima-buf     d-ng|n-ng|buf            keys and critical data
//	ima-modsig  d-ng|n-ng|sig|d-modsig|modsig
//	evm-sig     d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode
//
// Any other combination that ima_template_fmt= makes is listed under its format.
// Fields:
//
//	d             digest of the file, SHA-1 or MD5
//	d-ng          "<alg>:" NUL digest; d-modsig is of the same form
//	d-ngv2        "<type>:<alg>:" NUL digest; the type is ima or verity
//	n, n-ng       name: a path or that of an event, with a NUL; spaces are underscores
//	sig, evmsig   signature: u8 type, u8 version, u8 hash, be32 key id, be16 length, bytes
//	buf, modsig   bytes
//	xattrnames    names with bars between, and a NUL
//	xattrlengths  u32 for each; xattrvalues: the values, one after the other
//	iuid, igid    u32; imode: u16
//
// An empty field has length 0. As text: "%2d" PCR, the digest and then each field
// in hexadecimal, tags, names and integers as they are, a space before each, a line
// feed at the end; a name may contain line feeds.
//
// # What a PCR proves
//
// For each record the kernel extends every PCR bank, H(old value ‖ digest):
//
//   - digest is H(data) in the bank's hash; for template "ima", H(d ‖ name padded
//     with zeros to 256 bytes);
//   - a bank whose hash the kernel lacked when IMA started gets the SHA-1 digest,
//     padded with zeros: that can change with each boot in a list;
//   - a violation extends 0xff bytes, as many as the bank has.
//
// The first record of each boot is boot_aggregate: the digest of PCRs 0 to 9
// (BootAggregate). PCRs survive a kexec, so a list that was carried over one goes
// on behind the next boot_aggregate, and replays from the first.
//
// # The kexec buffer
//
// A list crosses a kexec in a buffer: u16 version 1, six bytes of zero, u64 size of
// all with these 24 bytes, u64 number of records, then the records in binary form
// (Dump). The receiving kernel's rules are Restore's.
//
// # Lifetimes
//
// Records that come from a slice alias it; those of a Reader, TextReader,
// Follower or Stream are valid until the next one; Record.Clone keeps one.
// Nothing is allocated for a record when a list is walked, replayed or written.
// What is wrong with an input is said by a *RecordError, with the offset and the
// number of the record, and what was good before it is returned first.
package imalog
