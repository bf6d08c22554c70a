// Package imakexec makes a kexec soft reboot attestable.
//
// The packages below this one do the work; this one only holds their map.
package imakexec
