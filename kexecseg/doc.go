// Package kexecseg plans, checks and loads what kexec_load(2) takes: segments in
// physical memory.
//
// A [MemoryMap] says where RAM is. A [Target], such as linuximage.Linux, lays an
// [Image] out in it with a [Planner], whose rules keep clear of what kexec_load(2)
// itself does not check and the next kernel does not survive. [Image.Map] gives
// the one mapping through which a planned segment's bytes are rewritten, and
// [Image.Digest] the sum that a purgatory verifies, with the rewritten range left
// out. [Load], [Unload] and [Reboot] are the system calls; what the kernel refuses
// comes back as a [RefusedError] that says what would help.
//
// Planning works on any system, from the files of a captured machine as well as
// from a live one. The system calls exist on Linux.
//
// # Lifetimes
//
// The kernel copies the segments at Load: to change a loaded image, write through
// the mapping and Load again. An Image may be loaded any number of times until
// Close. A loaded image is the kernel's and outlives the Image and the process.
package kexecseg
