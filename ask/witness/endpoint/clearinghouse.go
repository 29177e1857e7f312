package endpoint

import (
	"context"
	"errors"
	"time"

	"dragnet/wire/identity"
	"dragnet/wire/reporting"
)

// followEvery is how often the clearinghouse is asked for what is new, and
// followPause how soon after a failure.
const (
	followEvery = time.Minute
	followPause = 15 * time.Second
	// soonPause is the least time between two fetches that unknown keys caused.
	soonPause = 3 * time.Second
	// followDays is how far back epochs are learned: patterns that are asked
	// again keep that of their first time.
	followDays = 100
)

// followClearinghouse keeps roster and epochs up to date from the clearinghouse. What it
// hands out is checked like a file: a signed roster that descends from ours.
func (s *Service) followClearinghouse(ctx context.Context) {
	for ctx.Err() == nil {
		wait := followEvery
		if err := s.fetchUpdates(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("fetch roster and epochs failed", "err", err)
			wait = followPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(soonPause):
			select {
			case <-ctx.Done():
			case <-s.unknown:
			case <-time.After(wait - soonPause):
			}
		}
	}
}

// fetchSoon asks for the newest roster: a key that we do not know asked, which may be a
// new member's.
func (s *Service) fetchSoon() {
	select {
	case s.unknown <- struct{}{}:
	default:
	}
}

func (s *Service) fetchUpdates(ctx context.Context) error {
	server, err := identity.ParsePublic(s.config.Clearinghouse.Key)
	if err != nil {
		return err
	}
	c, err := reporting.Dial(s.config.Clearinghouse.URL, []identity.Public{server}, s.key)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	bundle, err := c.FetchRoster(ctx)
	if err == nil {
		err = s.members.acceptBundle(bundle, s.now())
	}
	epochs, failed := c.Epochs(ctx, followDays)
	before := len(s.deps.Epochs.Published())
	err = errors.Join(err, failed, s.deps.Epochs.merge(epochs))
	record := s.cosignRecord(ctx, c, server)
	if err == nil || isRewritten(record) {
		s.setRecordProblem(record)
		err = errors.Join(err, record)
	}
	if n := len(s.deps.Epochs.Published()); n != before {
		s.log.Info("epochs published", "known", n)
	}
	return err
}
