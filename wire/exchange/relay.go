package exchange

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	exchangev1 "dragnet/wire/exchange/v1"
	"dragnet/wire/exchange/v1/exchangev1connect"
	"dragnet/wire/identity"
)

// MessageID is the sender's own random number for a message.
type MessageID [16]byte

// Message is a sealed question on its way to a witness.
type Message struct {
	ID      MessageID
	To      identity.ID
	Expires time.Time
	Sealed  []byte
}

// Relay is a relay as its users see it. It is safe for concurrent use.
type Relay struct {
	client exchangev1connect.RelayServiceClient
	close  func()
}

// DialRelay prepares to talk to a relay under a key; nothing is sent yet.
func DialRelay(k *identity.Key, e Endpoint) (*Relay, error) {
	client, done, err := e.transport(k)
	if err != nil {
		return nil, err
	}
	return &Relay{exchangev1connect.NewRelayServiceClient(client, e.URL, clientOptions(MaxMessage+1<<20)...), done}, nil
}

// Close ends the connections.
func (b *Relay) Close() { b.close() }

// Register pins up a witness's card.
func (b *Relay) Register(ctx context.Context, card []byte) error {
	_, err := b.client.RegisterWitness(ctx, &exchangev1.RegisterWitnessRequest{Card: card})
	return err
}

// maxCards bounds the cards that a detective takes from one relay.
const maxCards = 100_000

// Witnesses lists the cards on the relay that are in order.
func (b *Relay) Witnesses(ctx context.Context, now time.Time) ([]Card, error) {
	var out []Card
	for after, read := []byte(nil), 0; ; {
		page, err := b.client.ListWitnesses(ctx, &exchangev1.ListWitnessesRequest{After: after})
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
			return nil, fmt.Errorf("the relay lists more than %d witnesses", maxCards)
		}
		after = page.Next
	}
}

// postBytes is how much is posted in one request.
const postBytes = 1 << 20

// Post leaves messages. When it returns nil all are on the relay's disk; a
// message that was posted twice is there once.
func (b *Relay) Post(ctx context.Context, messages []Message) error {
	for len(messages) > 0 {
		request, size := &exchangev1.PostMessagesRequest{}, 0
		for len(messages) > 0 && (size == 0 || size+len(messages[0].Sealed) <= postBytes) {
			l := &messages[0]
			request.Messages = append(request.Messages, &exchangev1.Message{Id: l.ID[:], To: l.To[:], Expires: timestamppb.New(l.Expires), Sealed: l.Sealed})
			size += len(l.Sealed) + 64
			messages = messages[1:]
		}
		if _, err := b.client.PostMessages(ctx, request); err != nil {
			return err
		}
	}
	return nil
}

// Fetch returns the messages to the calling witness, and waits for one if there
// are none.
func (b *Relay) Fetch(ctx context.Context, wait time.Duration) ([]Message, error) {
	response, err := b.client.FetchMessages(ctx, &exchangev1.FetchMessagesRequest{Wait: durationpb.New(wait)})
	if err != nil {
		return nil, err
	}
	var out []Message
	for _, m := range response.Messages {
		l, err := ReadMessage(m)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// ReadMessage checks the form of a message.
func ReadMessage(m *exchangev1.Message) (Message, error) {
	l := Message{Expires: m.GetExpires().AsTime(), Sealed: m.Sealed}
	if len(m.Id) != len(l.ID) || len(m.To) != len(l.To) || len(m.Sealed) == 0 || len(m.Sealed) > MaxMessage || m.Expires.CheckValid() != nil {
		return l, errors.New("message: malformed")
	}
	l.ID, l.To = MessageID(m.Id), identity.ID(m.To)
	return l, nil
}

// Answer leaves the answer to a message. When it returns nil the answer is on
// the relay's disk.
func (b *Relay) Answer(ctx context.Context, message MessageID, data []byte) error {
	stream, err := b.client.AnswerMessage(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&exchangev1.AnswerMessageRequest{Message: message[:]}); err == nil {
		_ = Chunks(data, func(c []byte) error { return stream.Send(&exchangev1.AnswerMessageRequest{Chunk: c}) })
	}
	// Where sending failed, the response says why.
	_, err = stream.CloseAndReceive()
	return err
}

// Collect takes the answers that are there to the given messages, waiting for a
// first one, and calls use for each. An answer beyond limit bytes, and one cut
// short, is given as it is with an error.
func (b *Relay) Collect(ctx context.Context, messages []MessageID, wait time.Duration, limit int, use func(MessageID, []byte, error)) error {
	request := &exchangev1.CollectAnswersRequest{Wait: durationpb.New(wait)}
	wanted := map[MessageID]bool{}
	for _, id := range messages {
		request.Messages = append(request.Messages, id[:])
		wanted[id] = true
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := b.client.CollectAnswers(ctx, request)
	if err != nil {
		return err
	}
	defer func() { cancel(); stream.Close() }()
	var current MessageID
	var g *chunkReader
	var failed error
	flush := func(err error) {
		if g != nil {
			use(current, g.data, errors.Join(failed, err))
		}
		g, failed = nil, nil
	}
	for stream.Receive() {
		m := stream.Msg()
		if len(m.Message) > 0 {
			flush(nil)
			if len(m.Message) != len(current) || !wanted[MessageID(m.Message)] {
				return errors.New("the relay sent an answer that was not asked for, or one twice")
			}
			current, g = MessageID(m.Message), &chunkReader{limit: limit}
			delete(wanted, current)
		}
		if g != nil && failed == nil {
			failed = g.add(m.Chunk)
		}
	}
	if err := stream.Err(); err != nil {
		return err // the last answer may be cut short: it stays on the relay
	}
	flush(nil)
	return nil
}

// Discard takes messages of ours, and their answers, off the relay.
func (b *Relay) Discard(ctx context.Context, messages []MessageID) error {
	request := &exchangev1.DiscardMessagesRequest{}
	for _, id := range messages {
		request.Messages = append(request.Messages, id[:])
	}
	_, err := b.client.DiscardMessages(ctx, request)
	return err
}
