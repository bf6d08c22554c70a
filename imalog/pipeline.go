package imalog

import "sync"

// A pipeline has batches hashed and taken through the lanes by several
// goroutines, the one that reads the list among them. Any batch may be hashed at
// any time; each lane takes them in order, when they are hashed.
type pipeline struct {
	e  *engine
	wg sync.WaitGroup

	mu     sync.Mutex
	cond   sync.Cond
	ring   []*batch // batch number n is ring[n%len(ring)]
	hashed []bool   // for each batch of the ring
	filled int      // batches that were passed on
	taken  int      // batches that someone hashes or has hashed
	lanes  []progress
	closed bool // no more batches come
}

// progress is how far a lane is.
type progress struct {
	next int // batch
	busy bool
}

// hashing stands for a lane in a task.
const hashing = -1

// A task is a batch to hash, or to take through a lane.
type task struct{ lane, batch int }

func newPipeline(e *engine) *pipeline {
	p := &pipeline{e: e, lanes: make([]progress, len(e.lanes))}
	p.cond.L = &p.mu
	for range 2*e.workers + 2 {
		p.ring = append(p.ring, new(batch))
		p.hashed = append(p.hashed, false)
	}
	p.ring[0] = e.b
	for range e.workers - 1 {
		p.wg.Add(1)
		go p.work()
	}
	return p
}

// exchange passes the batch that the reader has filled on and returns an empty
// one for it. While there is none the reader works too.
func (p *pipeline) exchange() *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filled++
	p.cond.Broadcast()
	for p.filled-p.finished() == len(p.ring) {
		if !p.do() {
			p.cond.Wait()
		}
	}
	slot := p.filled % len(p.ring)
	p.hashed[slot] = false
	b := p.ring[slot]
	p.e.collect(b)
	p.mu.Unlock()
	b.claim()
	p.mu.Lock()
	return b
}

// close passes the last batch on and returns when everything is done.
func (p *pipeline) close() {
	p.mu.Lock()
	p.filled++
	p.closed = true
	p.cond.Broadcast()
	for p.finished() < p.filled {
		if !p.do() {
			p.cond.Wait()
		}
	}
	p.mu.Unlock()
	p.wg.Wait()
	for n := range p.ring { // the oldest is the one behind the last
		p.e.collect(p.ring[(p.filled+n)%len(p.ring)])
	}
}

// work is what the other goroutines do.
func (p *pipeline) work() {
	defer p.wg.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed || p.finished() < p.filled {
		if !p.do() {
			p.cond.Wait()
		}
	}
}

// finished returns how many batches went through every lane.
func (p *pipeline) finished() int {
	n := p.filled
	for _, l := range p.lanes {
		n = min(n, l.next)
	}
	if len(p.lanes) > 0 {
		return n
	}
	n = max(0, p.filled-len(p.ring))
	for n < p.filled && p.hashed[n%len(p.ring)] {
		n++
	}
	return n
}

// do does one task, if there is one, with the lock released meanwhile.
func (p *pipeline) do() bool {
	t, ok := p.pick()
	if !ok {
		return false
	}
	b := p.ring[t.batch%len(p.ring)]
	p.mu.Unlock()
	if t.lane == hashing {
		b.digest(p.e.hashers, p.e.listed)
	} else {
		p.e.lanes[t.lane].run(b)
	}
	p.mu.Lock()
	if t.lane == hashing {
		p.hashed[t.batch%len(p.ring)] = true
	} else {
		p.lanes[t.lane].busy = false
		p.lanes[t.lane].next++
	}
	p.cond.Broadcast()
	return true
}

// pick chooses a task: a lane's before hashing, since nothing but the lanes has
// to be done in order.
func (p *pipeline) pick() (task, bool) {
	for i := range p.lanes {
		l := &p.lanes[i]
		if !l.busy && l.next < p.filled && p.hashed[l.next%len(p.ring)] {
			l.busy = true
			return task{i, l.next}, true
		}
	}
	if p.taken < p.filled {
		p.taken++
		return task{hashing, p.taken - 1}, true
	}
	return task{}, false
}
