// Package imalog reads, writes and replays measurement lists of Linux IMA.
package imalog
