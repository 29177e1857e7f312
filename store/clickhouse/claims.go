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

// A claim lasts leaseSeconds of the server's clock, and is renewed if the last
// renewal is more than renewAfter ago.
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

// Claim reserves a log, named by the sum of its start, until the next Commit,
// so that no other node imports it meanwhile; free is false if one does. News
// are the logs for which others committed something since the last call.
func (w *Writer) Claim(ctx context.Context, name string) (free bool, news []store.ImportedLog, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return false, nil, w.broken
	}
	if !claimName.MatchString(name) {
		return false, nil, fmt.Errorf("claim %q: want a sum in hexadecimal", name)
	}
	if !w.claims.held[name] {
		if free, err := w.winClaim(ctx, name); err != nil || !free {
			return false, nil, err
		}
		w.claims.held[name] = true
		if len(w.claims.held) == 1 {
			w.claims.renewed = time.Now()
		}
	}
	// The previous holder committed before it released the log.
	news, err = w.readNews(ctx)
	return err == nil, news, err
}

// winClaim claims a log unless another writer does. Of two that claim it at
// once, possibly neither gets it, but never both: each checks after it has
// inserted. A holder whose claim expired looks for claims that are held, so
// ours is checked twice.
func (w *Writer) winClaim(ctx context.Context, name string) (free bool, err error) {
	for _, held := range []uint8{0, 1} {
		if err := w.insertClaims(ctx, held, leaseSeconds, name); err != nil {
			return false, err
		}
		taken, err := w.isTaken(ctx, 0, name)
		if err != nil {
			return false, err
		}
		if taken {
			return false, w.insertClaims(ctx, 0, 0, name)
		}
	}
	return true, nil
}

// insertClaims inserts claims for that many seconds from now; with 0 it
// withdraws them.
func (w *Writer) insertClaims(ctx context.Context, held uint8, seconds int, names ...string) error {
	until := "toUInt32(0)"
	if seconds > 0 {
		until = fmt.Sprintf("toUInt32(toUnixTimestamp(now()) + %d)", seconds)
	}
	w.claims.turn++
	return w.execText(ctx, "claim", fmt.Sprintf("INSERT INTO $db.claims (day, name, writer, turn, held, until_time) "+
		"SELECT toUInt16(intDiv(toUnixTimestamp(now()), 86400)), arrayJoin([%s]), toUInt64(%d), toUInt64(%d), toUInt8(%d), %s",
		quoteNames(names), w.id, w.claims.turn, held, until))
}

// quoteNames lists names, which are hexadecimal.
func quoteNames(names []string) string { return "'" + strings.Join(names, "', '") + "'" }

// isTaken reports whether another writer claims one of names, or with held 1
// whether it holds one.
func (w *Writer) isTaken(ctx context.Context, held uint8, names ...string) (bool, error) {
	var others uint64
	text := fmt.Sprintf("SELECT count() FROM (SELECT writer, argMax(until_time, turn) AS until, argMax(held, turn) AS holds FROM $db.claims "+
		"WHERE name IN (%s) AND writer != %d GROUP BY name, writer) WHERE holds >= %d AND until > toUnixTimestamp(now())", quoteNames(names), w.id, held)
	err := w.eachRow(ctx, "look for claims", text, func(r driver.Rows) error { return r.Scan(&others) })
	return others > 0, err
}

// holdClaims renews all claims and fails if one was lost.
func (w *Writer) holdClaims(ctx context.Context) error {
	names := w.claimedNames()
	if len(names) == 0 {
		return nil
	}
	if err := w.insertClaims(ctx, 1, leaseSeconds, names...); err != nil {
		return err
	}
	w.claims.renewed = time.Now()
	taken, err := w.isTaken(ctx, 1, names...)
	if err == nil && taken {
		err = fmt.Errorf("%s: another node started to import the same log while this one was suspended; nothing was committed, import again", w.address)
	}
	return err
}

func (w *Writer) claimedNames() []string {
	names := make([]string, 0, len(w.claims.held))
	for name := range w.claims.held {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// renewClaims renews the claims when due.
func (w *Writer) renewClaims(ctx context.Context) error {
	if len(w.claims.held) == 0 || time.Since(w.claims.renewed) < renewAfter {
		return nil
	}
	return w.holdClaims(ctx)
}

// releaseClaims withdraws all claims.
func (w *Writer) releaseClaims(ctx context.Context) error {
	names := w.claimedNames()
	if len(names) == 0 {
		return nil
	}
	clear(w.claims.held)
	return w.insertClaims(ctx, 0, 0, names...)
}

// readNews reads what other writers committed since the last call.
func (w *Writer) readNews(ctx context.Context) ([]store.ImportedLog, error) {
	var changed []string
	text := fmt.Sprintf("SELECT writer, max(batch) FROM $db.commits WHERE id = '' AND writer != %d GROUP BY writer", w.id)
	seen := map[uint64]uint64{}
	err := w.eachRow(ctx, "look for commits", text, func(r driver.Rows) error {
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
	all, err := w.readSources(ctx, "writer IN ("+strings.Join(changed, ", ")+")")
	if err == nil {
		w.claims.seen = seen
	}
	return all, err
}
