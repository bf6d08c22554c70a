package main

import (
	"strconv"
	"unicode"
	"unicode/utf8"
)

// plain returns a name as it is if a terminal can show it, and quoted as in Go
// and C if not, or if it begins with a quote itself.
func plain(name string) string {
	if printable(name) && (name == "" || name[0] != '"') {
		return name
	}
	return strconv.Quote(name)
}

// printable reports whether s is text without control characters.
func printable(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
