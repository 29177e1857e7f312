// Package lru has a map that knows which of its entries was used longest ago,
// so that a bound on their number costs the same however many there are.
package lru

import "iter"

// Map is a map ordered by use. It is not safe for concurrent use.
type Map[K comparable, V any] struct {
	entries map[K]*entry[K, V]
	ring    entry[K, V] // ring.next was used longest ago
}

type entry[K comparable, V any] struct {
	key        K
	value      V
	prev, next *entry[K, V]
}

// New returns an empty Map.
func New[K comparable, V any]() *Map[K, V] {
	m := &Map[K, V]{entries: map[K]*entry[K, V]{}}
	m.ring.prev, m.ring.next = &m.ring, &m.ring
	return m
}

// Len is the number of entries.
func (m *Map[K, V]) Len() int { return len(m.entries) }

// Use returns the value of k, which from now on was used last.
func (m *Map[K, V]) Use(k K) (v V, ok bool) {
	e := m.entries[k]
	if e == nil {
		return v, false
	}
	m.moveLast(e)
	return e.value, true
}

// Put sets the value of k, which from now on was used last.
func (m *Map[K, V]) Put(k K, v V) {
	e := m.entries[k]
	if e == nil {
		e = &entry[K, V]{key: k}
		e.prev, e.next = e, e
		m.entries[k] = e
	}
	e.value = v
	m.moveLast(e)
}

// Delete removes k.
func (m *Map[K, V]) Delete(k K) {
	if e := m.entries[k]; e != nil {
		e.unlink()
		delete(m.entries, k)
	}
}

// Oldest is the entry used longest ago; ok is false if there is none.
func (m *Map[K, V]) Oldest() (k K, v V, ok bool) {
	e := m.ring.next
	return e.key, e.value, e != &m.ring
}

// All yields the entries, that used longest ago first. They may be deleted
// meanwhile.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for e := m.ring.next; e != &m.ring; {
			next := e.next
			if !yield(e.key, e.value) {
				return
			}
			e = next
		}
	}
}

func (m *Map[K, V]) moveLast(e *entry[K, V]) {
	if m.ring.prev == e {
		return
	}
	e.unlink()
	e.prev, e.next = m.ring.prev, &m.ring
	e.prev.next, m.ring.prev = e, e
}

func (e *entry[K, V]) unlink() { e.prev.next, e.next.prev = e.next, e.prev }
