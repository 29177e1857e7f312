package attackers

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
)

// Spray is a witness that saw nothing and wants a host blamed: it invents a flow with
// that host for every address that a question's key may be about, guessing the
// service, so that one of its answers opens. It is a log that a real witness reads.
type Spray struct {
	// Question is that asked, with one clue about an IPv4 address.
	Question []byte
	Service  key.Tuple
	Framed   netip.Addr
	// Claim is how many flows it says that it has, Most how many it invents.
	Claim uint64
	Most  int
}

// Scan hands over the invented flows.
func (s *Spray) Scan(_ context.Context, _ flow.Window, _ flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	flows, err := s.invent()
	if err != nil {
		return flow.Coverage{}, err
	}
	return flow.Coverage{Flows: s.Claim, To: 1, Sampling: 1}, fn(flows)
}

func (s *Spray) invent() (flows []flow.Flow, err error) {
	var q dossier.Question
	if err := q.UnmarshalBinary(s.Question); err != nil {
		return nil, err
	}
	r := Reading{Known: []key.Tuple{s.Service}}
	keys := r.readKeys(&q)
	if len(keys) != 1 {
		return nil, fmt.Errorf("%d keys about an IPv4 address; this liar answers one", len(keys))
	}
	eachAddress(&keys[0], 1<<q.Hash.Bits-1, func(a uint32) {
		if len(flows) >= s.Most {
			return
		}
		other := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a)))
		f := flow.Flow{Start: 1, Orig: s.Framed, Resp: other, RespPort: s.Service.DPort, Proto: s.Service.Proto, State: flow.SF}
		if q.Clues[0].End == key.In {
			f.Orig, f.Resp = other, s.Framed
		}
		flows = append(flows, f)
	})
	return flows, nil
}
