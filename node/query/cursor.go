package query

import (
	"encoding/base64"
	"errors"

	"google.golang.org/protobuf/proto"

	nodev1 "dragnet/wire/node/v1"
)

var errCursor = errors.New("invalid cursor; use one from the page before")

// encodeCursor encodes a list's selection and the position where it continues.
func encodeCursor(s *nodev1.Selection, p *Page) (string, error) {
	if p == nil {
		return "", nil
	}
	b, err := proto.Marshal(&nodev1.Cursor{Selection: s, Last: p.Last, After: p.After.Message(), Equal: uint32(p.Equal)})
	return base64.RawURLEncoding.EncodeToString(b), err
}

// decodeCursor reads what encodeCursor wrote. A cursor is not trusted: it selects
// only what its bearer could select without it.
func decodeCursor(text string) (*nodev1.Selection, Page, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, Page{}, errCursor
	}
	var c nodev1.Cursor
	if err := proto.Unmarshal(b, &c); err != nil || c.After == nil || c.Equal > MaxEqual {
		return nil, Page{}, errCursor
	}
	after, err := RowFrom(c.After)
	if err != nil {
		return nil, Page{}, errCursor
	}
	return c.Selection, Page{Last: c.Last, After: &after, Equal: int(c.Equal)}, nil
}
