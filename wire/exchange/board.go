package exchange

import (
	"context"
	"errors"
	"fmt"
	"time"

	exchangev1 "dragnet/wire/exchange/v1"
	"dragnet/wire/exchange/v1/exchangev1connect"
	"dragnet/wire/identity"
)

// LetterID is the sender's own random number for a letter.
type LetterID [16]byte

// Letter is a sealed question on its way to a witness.
type Letter struct {
	ID      LetterID
	To      identity.ID
	Expires time.Time
	Sealed  []byte
}

// Board is a relay as its users see it. It is safe for concurrent use.
type Board struct {
	client exchangev1connect.BoardClient
	close  func()
}

// DialBoard prepares to talk to a relay under a key; nothing is sent yet.
func DialBoard(k *identity.Key, e Endpoint) (*Board, error) {
	client, done, err := e.transport(k)
	if err != nil {
		return nil, err
	}
	return &Board{exchangev1connect.NewBoardClient(client, e.URL, clientOptions(MaxLetter+1<<20)...), done}, nil
}

// Close ends the connections.
func (b *Board) Close() { b.close() }

// Register pins up a witness's card.
func (b *Board) Register(ctx context.Context, card []byte) error {
	_, err := b.client.Register(ctx, &exchangev1.RegisterRequest{Card: card})
	return err
}

// maxCards bounds the cards that a detective takes from one board.
const maxCards = 100_000

// Witnesses lists the cards on the board that are in order.
func (b *Board) Witnesses(ctx context.Context, now time.Time) ([]Card, error) {
	var out []Card
	for after, read := []byte(nil), 0; ; {
		page, err := b.client.Witnesses(ctx, &exchangev1.WitnessesRequest{After: after})
		if err != nil {
			return nil, err
		}
		for _, data := range page.Cards {
			if c, err := OpenCard(data, now); err == nil {
				out = append(out, c)
			}
		}
		read += len(page.Cards)
		if len(page.Next) == 0 {
			return out, nil
		}
		if read >= maxCards || len(page.Cards) == 0 {
			return nil, fmt.Errorf("the board lists more than %d witnesses", maxCards)
		}
		after = page.Next
	}
}

// postBytes is how much is posted in one request.
const postBytes = 1 << 20

// Post leaves letters. When it returns nil all are on the relay's disk; a
// letter that was posted twice is there once.
func (b *Board) Post(ctx context.Context, letters []Letter) error {
	for len(letters) > 0 {
		request, size := &exchangev1.PostRequest{}, 0
		for len(letters) > 0 && (size == 0 || size+len(letters[0].Sealed) <= postBytes) {
			l := &letters[0]
			request.Letters = append(request.Letters, &exchangev1.Letter{Id: l.ID[:], To: l.To[:], Expires: l.Expires.Unix(), Sealed: l.Sealed})
			size += len(l.Sealed) + 64
			letters = letters[1:]
		}
		if _, err := b.client.Post(ctx, request); err != nil {
			return err
		}
	}
	return nil
}

// Fetch gives the witness the letters to it, waiting for one if there is none.
func (b *Board) Fetch(ctx context.Context, wait time.Duration) ([]Letter, error) {
	response, err := b.client.Fetch(ctx, &exchangev1.FetchRequest{Wait: wait.Milliseconds()})
	if err != nil {
		return nil, err
	}
	var out []Letter
	for _, m := range response.Letters {
		l, err := ReadLetter(m)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// ReadLetter checks the form of a letter.
func ReadLetter(m *exchangev1.Letter) (Letter, error) {
	l := Letter{Expires: time.Unix(m.Expires, 0).UTC(), Sealed: m.Sealed}
	if len(m.Id) != len(l.ID) || len(m.To) != len(l.To) || len(m.Sealed) == 0 || len(m.Sealed) > MaxLetter {
		return l, errors.New("letter: malformed")
	}
	l.ID, l.To = LetterID(m.Id), identity.ID(m.To)
	return l, nil
}

// Answer leaves the answer to a letter. When it returns nil the answer is on
// the relay's disk.
func (b *Board) Answer(ctx context.Context, letter LetterID, data []byte) error {
	stream, err := b.client.Answer(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&exchangev1.AnswerRequest{Letter: letter[:]}); err == nil {
		_ = Chunks(data, func(c []byte) error { return stream.Send(&exchangev1.AnswerRequest{Chunk: c}) })
	}
	// Where sending failed, the response says why.
	_, err = stream.CloseAndReceive()
	return err
}

// Collect takes the answers that are there to the given letters, waiting for a
// first one, and calls use for each. An answer beyond limit bytes, and one cut
// short, is given as it is with an error.
func (b *Board) Collect(ctx context.Context, letters []LetterID, wait time.Duration, limit int, use func(LetterID, []byte, error)) error {
	request := &exchangev1.CollectRequest{Wait: wait.Milliseconds()}
	wanted := map[LetterID]bool{}
	for _, id := range letters {
		request.Letters = append(request.Letters, id[:])
		wanted[id] = true
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := b.client.Collect(ctx, request)
	if err != nil {
		return err
	}
	defer func() { cancel(); stream.Close() }()
	var current LetterID
	var g *gather
	var failed error
	flush := func(err error) {
		if g != nil {
			use(current, g.data, errors.Join(failed, err))
		}
		g, failed = nil, nil
	}
	for stream.Receive() {
		m := stream.Msg()
		if len(m.Letter) > 0 {
			flush(nil)
			if len(m.Letter) != len(current) || !wanted[LetterID(m.Letter)] {
				return errors.New("the relay sent an answer that was not asked for, or one twice")
			}
			current, g = LetterID(m.Letter), &gather{limit: limit}
			delete(wanted, current)
		}
		if g != nil && failed == nil {
			failed = g.add(m.Chunk)
		}
	}
	if err := stream.Err(); err != nil {
		return err // the last answer may be cut short: it stays on the board
	}
	flush(nil)
	return nil
}

// Discard takes letters of ours, and their answers, off the board.
func (b *Board) Discard(ctx context.Context, letters []LetterID) error {
	request := &exchangev1.DiscardRequest{}
	for _, id := range letters {
		request.Letters = append(request.Letters, id[:])
	}
	_, err := b.client.Discard(ctx, request)
	return err
}
