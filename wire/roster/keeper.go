package roster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"dragnet/internal/durable"
	"dragnet/wire/envelope"
	"dragnet/wire/identity"
)

// Skew is how far the clock of the signer may be from ours.
const Skew = 5 * time.Minute

// Why a roster is not taken over.
var (
	ErrNone     = errors.New("roster: none has been accepted yet")
	ErrExpired  = errors.New("roster: the newest one known has expired, and with it every member's right; fetch a newer one")
	ErrRollback = errors.New("roster: older than the one held")
	ErrForked   = errors.New("roster: it does not descend from the one held; the signer showed different lists to different readers")
	ErrGap      = errors.New("roster: the history it brings does not reach back to the one held; remove the held one only after comparing signing keys by other means")
)

// Storage is where a Keeper remembers, so that a restart does not make it accept
// what it had left behind. Save must be durable when it returns.
type Storage interface {
	// Load gives what was saved last, nil if nothing was.
	Load() ([]byte, error)
	Save([]byte) error
}

// File is a State in a file.
type File string

// Load reads the file.
func (f File) Load() ([]byte, error) {
	data, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Save replaces the file.
func (f File) Save(data []byte) error { return durable.WriteFile(string(f), data, 0o600) }

// Keeper holds the newest roster known, and follows the signing key as it is
// handed over. It is safe for concurrent use.
type Keeper struct {
	state Storage

	mu     sync.RWMutex
	pin    identity.Public // the current signing key
	held   *Held
	bundle []byte
}

// NewKeeper trusts pin, the signing key as it was learnt by other means (on
// paper, by telephone), and goes on from what state remembers.
func NewKeeper(pin identity.Public, state Storage) (*Keeper, error) {
	k := &Keeper{state: state, pin: pin}
	saved, err := state.Load()
	if err != nil || saved == nil {
		return k, err
	}
	var b Bundle
	if err := b.UnmarshalBinary(saved); err != nil {
		return nil, fmt.Errorf("the roster held: %w", err)
	}
	// The pin may be the first key or any later one.
	k.pin = b.currentSigner(pin)
	if k.held, err = b.Open(k.pin); err != nil {
		return nil, fmt.Errorf("the roster held was not signed by %s or its successors; to trust that key in its place, remove the held one first: %w", pin, err)
	}
	k.bundle = saved
	return k, nil
}

// Accept takes over a bundle if it is signed by the current key, holds now, and
// descends from the version held. The same version again is not an error.
func (k *Keeper) Accept(bundle []byte, now time.Time) (*Held, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var b Bundle
	if err := b.UnmarshalBinary(bundle); err != nil {
		return nil, err
	}
	pin := b.currentSigner(k.pin)
	next, err := open(&b, pin, now, Skew)
	if errors.Is(err, envelope.ErrExpired) {
		return nil, ErrExpired
	}
	if err != nil {
		return nil, err
	}
	if k.held != nil {
		if err := b.checkDescent(next, k.held); err != nil {
			return nil, err
		}
		if next.Version == k.held.Version {
			return k.held, nil
		}
	}
	if err := k.state.Save(bundle); err != nil {
		return nil, fmt.Errorf("remember the roster: %w", err)
	}
	k.pin, k.held, k.bundle = pin, next, append([]byte(nil), bundle...)
	return next, nil
}

// checkDescent checks the chain of digests from the version held to the next one.
func (b *Bundle) checkDescent(next, held *Held) error {
	switch {
	case next.Version < held.Version:
		return fmt.Errorf("%w: version %d, held is %d", ErrRollback, next.Version, held.Version)
	case next.Version == held.Version:
		if next.Link != held.Link {
			return fmt.Errorf("%w: version %d", ErrForked, next.Version)
		}
		return nil
	}
	between := next.Version - held.Version - 1
	if between > uint64(len(b.History)) {
		return fmt.Errorf("%w: version %d, held is %d", ErrGap, next.Version, held.Version)
	}
	at := held.Link
	for _, content := range b.History[uint64(len(b.History))-between:] {
		at = digestLink(at, content)
	}
	if at != next.Previous {
		return fmt.Errorf("%w: version %d, held is %d", ErrForked, next.Version, held.Version)
	}
	return nil
}

// Current is the roster held, as long as it has not expired.
func (k *Keeper) Current(now time.Time) (*Held, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	switch {
	case k.held == nil:
		return nil, ErrNone
	case !now.Before(k.held.Expires.Add(Skew)):
		return nil, fmt.Errorf("%w (version %d, until %s)", ErrExpired, k.held.Version, k.held.Expires.Format(time.RFC3339))
	}
	return k.held, nil
}

// Bundle is the bundle held, to hand on; nil if there is none.
func (k *Keeper) Bundle() []byte {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.bundle
}

// Pin is the current signing key.
func (k *Keeper) Pin() identity.Public {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.pin
}
