package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dragnet/ask/relay"
	"dragnet/internal/state"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
)

// world is a relay on an unreliable network: lines that are cut and heal,
// acknowledgements that are lost, a relay that is restarted.
type world struct {
	*testing.T
	path string

	mu        sync.Mutex // guards all below; also serialises the random numbers
	random    *rand.Rand
	mailboxes *relay.Mailboxes
	db        *state.DB
	cut       map[identity.ID]bool
}

var errLine = errors.New("the line is down")

// call runs something at the relay for a key. The request may be lost, and
// so may the acknowledgement of what was done.
func (w *world) call(who identity.ID, do func(*relay.Mailboxes) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut[who] || w.random.IntN(5) == 0 {
		return errLine
	}
	if err := do(w.mailboxes); err != nil {
		return err
	}
	if w.random.IntN(5) == 0 {
		return errLine
	}
	return nil
}

func (w *world) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.db != nil {
		w.db.Close()
	}
	db, err := state.Open(context.Background(), w.path)
	if err == nil {
		w.db = db
		w.mailboxes, err = relay.NewMailboxes(db, relay.DefaultConfiguration())
	}
	if err == nil {
		err = w.mailboxes.Migrate(context.Background())
	}
	if err != nil {
		w.Error(err)
	}
}

func (w *world) pause(longest time.Duration) {
	w.mu.Lock()
	d := time.Duration(1 + w.random.Int64N(int64(longest)))
	w.mu.Unlock()
	time.Sleep(d)
}

// TestPartitionAndRestart: half of the witnesses lose the relay, and it is
// restarted again and again, while questions are asked. Every message whose
// posting was acknowledged is answered once by its witness and collected with
// that answer, and no witness works on a message of another.
func TestPartitionAndRestart(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("DRAGNET_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("DRAGNET_SEED=%d", seed)
	path := filepath.Join(t.TempDir(), "relay.db")
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, path: path, random: rand.New(rand.NewPCG(seed, 0)), cut: map[identity.ID]bool{}}
		w.restart()
		defer func() { w.db.Close() }()
		const witnesses, messages = 8, 24
		over := make(chan struct{})
		var running sync.WaitGroup
		for i := range witnesses {
			running.Go(func() { w.witness(who(byte(i)), over) })
		}
		running.Go(func() { w.disturb(witnesses, over) })
		answers := w.detective(who(100), witnesses, messages)
		close(over)
		running.Wait()
		for i := range messages {
			id := exchange.MessageID{byte(i)}
			if want := answerOf(who(byte(i%witnesses)), id); string(answers[id]) != want {
				t.Errorf("message %d: collected %q, want %q", i, answers[id], want)
			}
		}
	})
}

func answerOf(witness identity.ID, l exchange.MessageID) string {
	return fmt.Sprintf("%x on %x", witness[:2], l)
}

// witness looks for messages and answers them; what was not acknowledged it does
// again.
func (w *world) witness(me identity.ID, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		default:
		}
		w.pause(10 * time.Second)
		var messages []exchange.Message
		err := w.call(me, func(b *relay.Mailboxes) (err error) {
			messages, err = b.Fetch(context.Background(), time.Now(), me)
			return err
		})
		if err != nil {
			continue
		}
		for _, l := range messages {
			if l.To != me {
				w.Errorf("witness %x was given a message to %x", me[:2], l.To[:2])
			}
			err := w.call(me, func(b *relay.Mailboxes) error {
				_, err := b.Answer(context.Background(), time.Now(), me, l.ID, []byte(answerOf(me, l.ID)))
				return err
			})
			if err != nil && !errors.Is(err, errLine) && !errors.Is(err, relay.ErrUnknown) {
				w.Error(err)
			}
		}
	}
}

// disturb cuts off half of the witnesses for a while, and restarts the relay.
func (w *world) disturb(witnesses int, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		default:
		}
		w.pause(time.Minute)
		w.mu.Lock()
		half := w.random.Perm(witnesses)[:witnesses/2]
		for i := range witnesses {
			w.cut[who(byte(i))] = false
		}
		for _, i := range half {
			w.cut[who(byte(i))] = true
		}
		w.mu.Unlock()
		w.restart()
	}
}

// detective posts messages until each was acknowledged, and collects until all
// answers are there; an answer that comes twice must be the same.
func (w *world) detective(me identity.ID, witnesses, messages int) map[exchange.MessageID][]byte {
	expires := time.Now().Add(24 * time.Hour)
	for i := range messages {
		l := exchange.Message{ID: exchange.MessageID{byte(i)}, To: who(byte(i % witnesses)), Expires: expires, Sealed: []byte{byte(i)}}
		for w.call(me, func(b *relay.Mailboxes) error {
			return b.Post(context.Background(), time.Now(), sender(me), []exchange.Message{l})
		}) != nil {
			w.pause(5 * time.Second)
		}
	}
	answers := map[exchange.MessageID][]byte{}
	for time.Now().Before(expires) && len(answers) < messages {
		w.pause(10 * time.Second)
		for i := range messages {
			id := exchange.MessageID{byte(i)}
			var answer []byte
			err := w.call(me, func(b *relay.Mailboxes) (err error) {
				answer, err = b.Collect(context.Background(), me, id)
				return err
			})
			if err != nil {
				continue
			}
			if old, again := answers[id]; again && string(old) != string(answer) {
				w.Errorf("message %d has two answers", i)
			}
			answers[id] = answer
		}
	}
	return answers
}
