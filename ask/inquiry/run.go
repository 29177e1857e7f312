package inquiry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"dragnet/ask/detective"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

// Configuration of one inquiry over the network.
type Configuration struct {
	Detective detective.Configuration
	Key       *identity.Key
	Book      *Book
	Selection WitnessSelection
	// Table orders by AS distance; nil orders by prefix alone.
	Table *Table
	// Stage is how many witnesses are asked at first; each further stage has
	// twice as many, until the quorum agrees. 0 asks all at once.
	Stage int
	// Strangers bounds how many witnesses that only relays know are asked, drawn at
	// random: keys cost nothing, and all strangers together have one voice.
	Strangers int
	// Deadline bounds a stage.
	Deadline time.Duration
	// Wait is how long witnesses are asked again that want another organisation to ask
	// the same, every Again.
	Wait, Again time.Duration
	// MaxAnswer bounds one answer, in bytes.
	MaxAnswer int
	// Parallel bounds the connections at a time.
	Parallel int
	// Roster is the community's list of members; nil if there is none, or none that
	// holds.
	Roster *roster.Held
	// Earlier, if set, is what witnesses said in earlier inquiries.
	Earlier map[identity.Public]detective.Earlier
	// Asking, if set, sees what the question gives away before anybody is
	// asked; an error of it ends the inquiry.
	Asking func([]detective.MeteredKey) error
	// Note, if set, is called for every change, one at a time.
	Note func(Note)
}

// DefaultConfiguration waits half a minute for each stage.
func DefaultConfiguration() Configuration {
	return Configuration{Strangers: 1000, Deadline: 30 * time.Second, Again: 5 * time.Minute, MaxAnswer: exchange.MaxTestimony, Parallel: 32}
}

// Note is one change of an inquiry's state.
type Note struct {
	Witness string
	Key     identity.Public
	Status  AskStatus
	// Detail is the error, if any.
	Detail string
	// Testimony summarises the answer.
	Testimony *detective.TestimonySummary
	// Spray says that it has far more answers than an honest witness would give.
	Spray bool
	// State is that of the inquiry: "12 of 20 answered, 3 refused, 5 silent".
	State string
}

// Summary is the end of an inquiry.
type Summary struct {
	Inquiry *detective.Inquiry
	Result  detective.Result
	Tally   *StatusCounts
	// Stages is how many stages were asked.
	Stages int
}

// asking is a running inquiry.
type asking struct {
	c       Configuration
	inquiry *detective.Inquiry
	relays  []*exchange.Relay
	cards   map[identity.ID]mailbox
	direct  chan struct{} // bounds the connections

	mu       sync.Mutex // guards the inquiry once it is asked, and what follows
	tally    *StatusCounts
	awaiting []Contact // witnesses that want another organisation to ask the same
}

// mailbox is a relay at which a witness fetches messages.
type mailbox struct {
	relay int
	key   []byte
}

// Run asks about a pattern and waits for the answers.
func Run(ctx context.Context, c Configuration, p *pattern.Pattern) (*Summary, error) {
	inquiry, err := detective.New(c.Detective, p)
	if err != nil {
		return nil, err
	}
	if c.Asking != nil {
		if err := c.Asking(inquiry.Meter()); err != nil {
			return nil, err
		}
	}
	a := &asking{
		c: c, inquiry: inquiry, cards: map[identity.ID]mailbox{}, tally: NewTally(), direct: make(chan struct{}, max(1, c.Parallel)),
	}
	defer a.closeRelays()
	strangers, err := a.readRelays(ctx)
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	strangers = someStrangers(c.Book.Vouch(c.Roster, time.Now(), strangers), c.Strangers, random)
	contacts, err := c.Book.Order(c.Selection, strangers, c.Table, random)
	if err != nil {
		return nil, err
	}
	out := &Summary{Inquiry: inquiry, Tally: a.tally}
	for _, stage := range Stages(contacts, c.Stage) {
		out.Stages++
		if err := a.askStage(ctx, stage); err != nil {
			return nil, err
		}
		if c.Stage > 0 && inquiry.Agreed() >= c.Detective.Quorum {
			break
		}
	}
	if err := a.askAgain(ctx); err != nil {
		return nil, err
	}
	out.Result = inquiry.Result()
	a.noteSprays(contacts, &out.Result)
	return out, ctx.Err()
}

// someStrangers draws at most n strangers and keeps all members.
func someStrangers(all []Contact, n int, random *rand.Rand) []Contact {
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return slices.DeleteFunc(all, func(c Contact) bool {
		if c.Stranger {
			n--
		}
		return c.Stranger && n < 0
	})
}

// noteSprays notes which witnesses sprayed, now that all answers can be compared.
func (a *asking) noteSprays(contacts []Contact, r *detective.Result) {
	for i := range r.Witnesses {
		h := &r.Witnesses[i]
		if !h.Sprays || a.c.Note == nil {
			continue
		}
		if at := slices.IndexFunc(contacts, func(c Contact) bool { return c.Name == h.Name }); at >= 0 {
			a.c.Note(Note{
				Witness: h.Name, Key: contacts[at].Key, Status: Answered, Detail: "far more answers than an honest witness would give: not believed",
				Testimony: h, Spray: true, State: a.tally.String(),
			})
		}
	}
}

// askStage asks some witnesses and returns when all have answered or the deadline
// has passed.
func (a *asking) askStage(ctx context.Context, contacts []Contact) error {
	within, cancel := context.WithTimeout(ctx, a.c.Deadline)
	defer cancel()
	byRelay := make([][]Contact, len(a.relays))
	var asked sync.WaitGroup
	for _, contact := range contacts {
		a.startAsking(&contact)
		if contact.URL != "" {
			asked.Go(func() { a.askDirectly(within, &contact) })
			continue
		}
		box, known := a.cards[contact.Key.ID()]
		if !known {
			a.noteStatus(&contact, Unreachable, "it has no URL in the book, and no relay has its card", nil)
			continue
		}
		byRelay[box.relay] = append(byRelay[box.relay], contact)
	}
	for i, some := range byRelay {
		if len(some) > 0 {
			asked.Go(func() { a.askOver(within, a.relays[i], some) })
		}
	}
	asked.Wait()
	for i := range contacts {
		a.noteStatus(&contacts[i], Silent, "", nil) // for those still waiting
	}
	return ctx.Err()
}

// askAgain asks those witnesses again that want another organisation to ask the same,
// until all have answered or the wait is over. The question stays the same, so that
// it gives away nothing that it did not before.
func (a *asking) askAgain(ctx context.Context) error {
	for over := time.Now().Add(a.c.Wait); len(a.awaiting) > 0 && time.Now().Add(a.c.Again).Before(over); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(a.c.Again):
		}
		contacts := a.awaiting
		a.awaiting = nil
		for i := range contacts {
			a.tally.Reopen(contacts[i].Name)
		}
		if err := a.askStage(ctx, contacts); err != nil {
			return err
		}
	}
	return nil
}

// sourceOf is a contact with what it said before.
func (a *asking) sourceOf(c *Contact) detective.KnownWitness {
	s := c.Source()
	s.Earlier = a.c.Earlier[c.Key]
	return s
}

func (a *asking) startAsking(c *Contact) {
	a.mu.Lock()
	a.inquiry.AddSource(a.sourceOf(c))
	a.mu.Unlock()
	a.noteStatus(c, Waiting, "", nil)
}

// noteStatus sets a witness's status, once.
func (a *asking) noteStatus(c *Contact, s AskStatus, detail string, h *detective.TestimonySummary) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.setStatus(c, s, detail, h)
}

func (a *asking) setStatus(c *Contact, s AskStatus, detail string, h *detective.TestimonySummary) {
	if a.tally.Set(c.Name, s) && a.c.Note != nil {
		a.c.Note(Note{Witness: c.Name, Key: c.Key, Status: s, Detail: detail, Testimony: h, State: a.tally.String()})
	}
}

// margin is how much longer than the deadline a question's envelope holds.
const margin = time.Minute

func (a *asking) askDirectly(ctx context.Context, c *Contact) {
	select {
	case a.direct <- struct{}{}:
		defer func() { <-a.direct }()
	case <-ctx.Done():
		return
	}
	question, err := exchange.SealQuestion(a.c.Key, c.Key.ID(), time.Now(), a.c.Deadline+margin, a.inquiry.Question())
	if err == nil {
		var data []byte
		data, err = exchange.Ask(ctx, a.c.Key, exchange.Endpoint{URL: c.URL, Key: c.Key}, question, a.c.MaxAnswer)
		if err == nil {
			a.openTestimony(ctx, c, data)
			return
		}
	}
	a.noteStatus(c, StatusOf(err, ctx.Err() != nil), err.Error(), nil)
}

// openTestimony opens the answer of a witness: a testimony, or something else,
// which is counted by its kind.
func (a *asking) openTestimony(ctx context.Context, c *Contact, data []byte) {
	sealed, err := exchange.OpenTestimony(data, a.c.Key.ID(), c.Key, time.Now(), a.inquiry.ID())
	if err != nil {
		a.noteStatus(c, StatusOf(err, false), err.Error(), nil)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	h, err := a.inquiry.OpenTestimonyFrom(context.WithoutCancel(ctx), a.sourceOf(c), sealed)
	switch {
	case err != nil:
		a.setStatus(c, StatusOf(err, false), err.Error(), nil)
	case h.Refused != "":
		if h.Refused == dossier.AwaitingOthers.String() {
			a.awaiting = append(a.awaiting, *c)
		}
		a.setStatus(c, Refused, h.Refused, &h)
	default:
		a.setStatus(c, Answered, "", &h)
	}
}

func (a *asking) closeRelays() {
	for _, b := range a.relays {
		if b != nil {
			b.Close()
		}
	}
}

// readRelays reads the contact cards of the relays, and returns the witnesses
// that the book does not have. A relay that is down costs its witnesses, not the
// inquiry.
func (a *asking) readRelays(ctx context.Context) (strangers []Contact, err error) {
	known := map[identity.Public]bool{}
	needed := a.c.Selection.Strangers()
	for _, name := range a.c.Selection.Names { // a member's, whom the book does not have
		_, ok := a.c.Book.Find(name)
		needed = needed || !ok && a.c.Roster != nil
	}
	for i := range a.c.Book.Witnesses {
		known[a.c.Book.Witnesses[i].Key] = true
		needed = needed || a.c.Book.Witnesses[i].URL == ""
	}
	if !needed {
		return nil, nil
	}
	within, cancel := context.WithTimeout(ctx, a.c.Deadline) // for all of them
	defer cancel()
	for i, r := range a.c.Book.Relays {
		b, err := exchange.DialRelay(a.c.Key, exchange.Endpoint{URL: r.URL, Key: r.Key})
		if err != nil {
			return nil, fmt.Errorf("relay %s: %w", r.Name, err)
		}
		a.relays = append(a.relays, b)
		cards, err := b.Witnesses(within, time.Now())
		if err != nil {
			if a.c.Note != nil {
				a.c.Note(Note{Witness: r.Name, Key: r.Key, Status: Unreachable, Detail: "relay: " + err.Error(), State: a.tally.String()})
			}
			continue
		}
		for _, card := range cards {
			id := card.Key.ID()
			if _, again := a.cards[id]; again {
				continue
			}
			a.cards[id] = mailbox{i, card.Mailbox}
			if !known[card.Key] {
				strangers = append(strangers, Stranger(card))
			}
		}
	}
	return strangers, ctx.Err()
}
