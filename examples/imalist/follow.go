package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/imakexec/imakexec/imalog"
)

// A follower gives the records of a live list for as long as it is asked to.
type follower struct {
	root  fs.FS
	name  string
	opts  imalog.FollowOptions
	every time.Duration // between two looks at the list
	note  func(string)  // tells people what happened to the list
	pause func() error  // called when there is nothing new for now
	add   func(*imalog.Record) error

	busy bool // another process has the list, and note was told
}

// run returns when the context ends, without an error then.
func (f *follower) run(ctx context.Context) error {
	order, err := liveOrder(f.root, f.opts.Alg, f.name, f.opts.Busy)
	for errors.Is(err, imalog.ErrBusy) && ctx.Err() == nil {
		f.waitBusy(ctx)
		order, err = liveOrder(f.root, f.opts.Alg, f.name, f.opts.Busy)
	}
	if err != nil {
		return err
	}
	f.opts.Reader.ByteOrder = order
	list := imalog.Live(f.root, &f.opts)
	defer list.Close()
	for ctx.Err() == nil {
		count, _ := imalog.LiveCount(f.root)
		err := f.drain(ctx, list)
		switch {
		case err == nil:
			f.busy = false
			f.wait(ctx, count)
		case errors.Is(err, imalog.ErrBusy):
			f.waitBusy(ctx)
		case errors.Is(err, imalog.ErrShrunk):
			f.note("all records that were shown were deleted, and perhaps some that were not")
		default:
			return err
		}
	}
	return nil
}

// drain gives what is new and closes the list: while it is open, Linux 7.2 and
// later let nobody delete records.
func (f *follower) drain(ctx context.Context, list *imalog.Follower) error {
	for ctx.Err() == nil {
		rec, err := list.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return liveError(f.name, f.opts.Alg, err)
		}
		if err := f.add(rec); err != nil {
			return err
		}
	}
	if err := list.Pause(); err != nil {
		return err
	}
	return f.pause()
}

func (f *follower) waitBusy(ctx context.Context) {
	if !f.busy {
		f.note("another process is deleting or staging records: waiting")
	}
	f.busy = true
	f.wait(ctx, -1)
}

// wait returns when the list has another number of records than count, or, where
// the kernel does not tell their number, after a while.
func (f *follower) wait(ctx context.Context, count int) {
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n, err := imalog.LiveCount(f.root); err != nil || n != count {
			return
		}
	}
}

// liveOrder tells in which byte order a kernel shows its list: its own, or little
// endian where it was told to (ima_canonical_fmt). busy is that of imalog.FollowOptions.
func liveOrder(root fs.FS, alg uint16, name string, busy time.Duration) (binary.ByteOrder, error) {
	var first error
	for _, order := range []binary.ByteOrder{binary.NativeEndian, binary.LittleEndian, binary.BigEndian} {
		list := imalog.Live(root, &imalog.FollowOptions{Alg: alg, Busy: busy, Reader: imalog.ReaderOptions{ByteOrder: order}})
		_, err := list.Next()
		list.Close()
		var at *imalog.RecordError
		if !errors.As(err, &at) {
			if err != nil && err != io.EOF {
				return nil, liveError(name, alg, err)
			}
			return order, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, liveError(name, alg, first)
}
