package pointer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dragnet/publish/mirror"
	"dragnet/wire/identity"
)

// Found is what the table says about a publisher.
type Found struct {
	Pointer
	// Asked nodes were looked at, and Copies of them had this item.
	Asked  int `json:"asked"`
	Copies int `json:"copies"`
}

// ErrNotFound says that no node had an item of the publisher.
var ErrNotFound = errors.New("the distributed hash table has no item that this publisher signed")

// Find looks for the newest item of a publisher. Nodes can withhold it or answer
// with an older one, and cannot forge one: what is found is no older than what
// any honest node on the way had.
func Find(ctx context.Context, bootstrap []string, publisher identity.Public) (*Found, error) {
	c := DefaultConfiguration()
	c.Bootstrap = bootstrap
	t, err := openTable(&c)
	if err != nil {
		return nil, err
	}
	defer t.close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w, _, err := t.walkTo(ctx, publisher)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := int(w.answers.Load())
	if w.best == nil {
		return nil, fmt.Errorf("%w: %d nodes answered", ErrNotFound, asked)
	}
	p, err := parsePointer(w.best.text)
	if err != nil {
		return nil, err
	}
	return &Found{*p, asked, w.copies}, nil
}

// Scheme begins the address of a publication that is to be found: dht://NODE or
// dht://NODE,NODE.
const Scheme = "dht://"

// Copy brings a copy up to date from the copier's URL. If that is of Scheme, the
// table says where the mirrors are, and they are tried in turn; none may be older
// than what the table says.
func Copy(ctx context.Context, c mirror.Copier) (mirror.Copied, error) {
	nodes, ok := strings.CutPrefix(c.URL, Scheme)
	if !ok {
		return c.Copy(ctx)
	}
	found, err := Find(ctx, strings.Split(nodes, ","), c.Publisher)
	if err != nil {
		return mirror.Copied{}, err
	}
	c.Seen = &found.Head
	all := fmt.Errorf("none of %d mirrors has publication %d", len(found.Mirrors), found.Head.Number)
	for _, c.URL = range found.Mirrors {
		done, err := c.Copy(ctx)
		if err == nil || ctx.Err() != nil {
			return done, err
		}
		all = errors.Join(all, fmt.Errorf("%s: %w", c.URL, err))
	}
	return mirror.Copied{}, all
}
