package clickhouse

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"dragnet/store"
)

// A claim lasts leaseSeconds of the server's clock, and is renewed when renewed
// last longer than renewAfter ago.
const (
	leaseSeconds = 30
	renewAfter   = 8 * time.Second
)

// claims are the logs that a writer has claimed and not yet committed.
type claims struct {
	held    map[string]bool
	turn    uint64
	renewed time.Time
	// seen is the last batch of every other writer whose logs were read.
	seen map[uint64]uint64
}

var claimName = regexp.MustCompile(`^[0-9a-f]{1,64}$`)

// Claim reserves a log, named by the sum of its beginning, until the next
// Commit, so that no other node imports it meanwhile; free is false if one does.
// News are the logs of which others committed something since the last call.
func (w *Writer) Claim(ctx context.Context, name string) (free bool, news []store.Source, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return false, nil, w.broken
	}
	if !claimName.MatchString(name) {
		return false, nil, fmt.Errorf("claim %q: want a sum in hexadecimal", name)
	}
	if !w.claims.held[name] {
		if free, err := w.win(ctx, name); err != nil || !free {
			return false, nil, err
		}
		w.claims.held[name] = true
		if len(w.claims.held) == 1 {
			w.claims.renewed = time.Now()
		}
	}
	// Whoever had the log before committed before it let go.
	news, err = w.news(ctx)
	return err == nil, news, err
}

// win claims a log unless another does. Of two that want it at once, neither
// may get it, but not both: each looks after it has inserted. A holder whose
// claim ran out looks for claims that are held, so ours is looked at twice.
func (w *Writer) win(ctx context.Context, name string) (free bool, err error) {
	for _, held := range []uint8{0, 1} {
		if err := w.claim(ctx, held, leaseSeconds, name); err != nil {
			return false, err
		}
		taken, err := w.taken(ctx, 0, name)
		if err != nil {
			return false, err
		}
		if taken {
			return false, w.claim(ctx, 0, 0, name)
		}
	}
	return true, nil
}

// claim inserts claims for so many seconds from now on; with 0 it withdraws
// them.
func (w *Writer) claim(ctx context.Context, held uint8, seconds int, names ...string) error {
	until := "toUInt32(0)"
	if seconds > 0 {
		until = fmt.Sprintf("toUInt32(toUnixTimestamp(now()) + %d)", seconds)
	}
	w.claims.turn++
	return w.exec(ctx, "claim", fmt.Sprintf("INSERT INTO $db.claims (day, name, writer, turn, held, until_time) "+
		"SELECT toUInt16(intDiv(toUnixTimestamp(now()), 86400)), arrayJoin([%s]), toUInt64(%d), toUInt64(%d), toUInt8(%d), %s",
		quoted(names), w.id, w.claims.turn, held, until))
}

// quoted lists names, which are hexadecimal.
func quoted(names []string) string { return "'" + strings.Join(names, "', '") + "'" }

// taken reports whether another writer claims one of names, or with held 1
// whether it holds one.
func (w *Writer) taken(ctx context.Context, held uint8, names ...string) (bool, error) {
	var others uint64
	text := fmt.Sprintf("SELECT count() FROM (SELECT writer, argMax(until_time, turn) AS until, argMax(held, turn) AS holds FROM $db.claims "+
		"WHERE name IN (%s) AND writer != %d GROUP BY name, writer) WHERE holds >= %d AND until > toUnixTimestamp(now())", quoted(names), w.id, held)
	err := w.each(ctx, "look for claims", text, func(r driver.Rows) error { return r.Scan(&others) })
	return others > 0, err
}

// hold renews all claims and fails if one was lost.
func (w *Writer) hold(ctx context.Context) error {
	names := w.names()
	if len(names) == 0 {
		return nil
	}
	if err := w.claim(ctx, 1, leaseSeconds, names...); err != nil {
		return err
	}
	w.claims.renewed = time.Now()
	taken, err := w.taken(ctx, 1, names...)
	if err == nil && taken {
		err = fmt.Errorf("%s: another node began to import the same log while this one stood still; nothing was committed, import again", w.address)
	}
	return err
}

func (w *Writer) names() []string {
	names := make([]string, 0, len(w.claims.held))
	for name := range w.claims.held {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// renew renews the claims when it is time to.
func (w *Writer) renew(ctx context.Context) error {
	if len(w.claims.held) == 0 || time.Since(w.claims.renewed) < renewAfter {
		return nil
	}
	return w.hold(ctx)
}

// release withdraws all claims.
func (w *Writer) release(ctx context.Context) error {
	names := w.names()
	if len(names) == 0 {
		return nil
	}
	clear(w.claims.held)
	return w.claim(ctx, 0, 0, names...)
}

// news reads what other writers committed since the last time.
func (w *Writer) news(ctx context.Context) ([]store.Source, error) {
	var changed []string
	text := fmt.Sprintf("SELECT writer, max(batch) FROM $db.commits WHERE id = '' AND writer != %d GROUP BY writer", w.id)
	seen := map[uint64]uint64{}
	err := w.each(ctx, "look for commits", text, func(r driver.Rows) error {
		var writer, batch uint64
		err := r.Scan(&writer, &batch)
		if seen[writer] = batch; w.claims.seen[writer] != batch {
			changed = append(changed, fmt.Sprint(writer))
		}
		return err
	})
	if err != nil || len(changed) == 0 {
		return nil, err
	}
	all, err := w.sources(ctx, "writer IN ("+strings.Join(changed, ", ")+")")
	if err == nil {
		w.claims.seen = seen
	}
	return all, err
}
