// Package events builds, reads, measures and judges IMA critical data: the
// records by which a kernel, or user space in its place, says in the
// measurement list what it is about to do.
package events
