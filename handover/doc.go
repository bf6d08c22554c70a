// Package handover hands the measurement list over to the next kernel: Load
// allocates a buffer for it inside a kexec image, Execute fills the buffer and
// jumps, Arrive judges what the next kernel has. It only composes imalog, kexecseg
// and events.
//
// # What happens when
//
// Load reads the list, replays it against the PCR, has the target plan an image
// with a buffer of the list's size and some more, and loads it with kexec_load(2).
// The buffer holds no records yet. Anything may be measured afterwards.
//
// Seal is everything but the jump. It holds what measures (Options.Quiesce), reads
// the records that are new and rehearses: fill the buffer, load the image, replay
// the list against the PCR. Only then are kexec_load and kexec_execute extended into
// the PCR, since from that moment the kernel's own list no longer replays. They
// are put where the PCR proves that they belong, and the image is loaded again,
// until nothing came meanwhile. User space cannot reach the pages of a loaded
// image, so to refill the buffer is to load again; that also lets it grow.
//
// Execute is Seal and reboot(2). Whoever has a reboot of its own, as u-root and
// systemd have, calls Seal and then that. Another process of the same boot can take
// over after Load (Resume).
//
// # What user space measures
//
// It is written to a journal in Options.StateDir before the PCR is extended, so a
// crash leaves at worst a journaled record that is not in the PCR, which the replay
// finds. Until the jump the list that the PCR proves is the kernel's with the
// journaled records in their places: ReadList gives it, to any process at any
// moment. The state directory belongs on a tmpfs; what it holds of another boot is
// ignored.
//
// # What is proved
//
// With a TPM, or PCRs in sysfs, the list is replayed in every bank before it is
// handed over. One that replayed at Load has to replay at Seal. One that did not,
// because an earlier kexec lost records, is carried as it is and Status says so: a
// machine must not fail to boot for it.
//
// # Failures
//
// Every error is an *OpError that names the step, says whether a kexec image is
// loaded whose list may lack records, and unwraps to its cause. The machine runs on
// after it: what was quiesced goes on, ReadList gives a list that replays if there
// was one, and what failed can be called again.
//
// # Limits
//
// A record that is measured between the last look at the list and the jump is in
// the PCR and lost: quiesce what measures, or jump at once. The kernel holds the old
// image until the new one is there; where there is memory for one only, Seal unloads the
// old one first, unless kernel.kexec_load_limit_reboot leaves fewer than five loads.
// Unmounting and sync(2) are the caller's.
package handover
