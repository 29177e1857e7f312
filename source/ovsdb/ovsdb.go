// Package ovsdb reads from the database of Open vSwitch, or of OVN, which virtual
// machine is behind which port, and whose it is.
//
// It asks once and keeps nothing: one transaction of selects (RFC 7047, section
// 4.1.3). That needs a hundred lines; the client libraries keep a replica of the
// whole database, and bring a dozen modules for it.
package ovsdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// maxReply bounds a reply of a database, in bytes.
const maxReply = 256 << 20

// ErrReply is wrapped when a reply is not what RFC 7047 says.
var ErrReply = errors.New("not a reply of an OVSDB server")

// message is a request or a response of JSON-RPC 1.0.
type message struct {
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  json.RawMessage `json:"error,omitempty"`
	ID     json.RawMessage `json:"id"`
}

// row is a row of a table, by column.
type row map[string]json.RawMessage

// selection is one select operation.
type selection struct {
	Operation string   `json:"op"`
	Table     string   `json:"table"`
	Where     []string `json:"where"`
	Columns   []string `json:"columns"`
}

func selectFrom(table string, columns ...string) selection {
	return selection{"select", table, []string{}, columns}
}

// read makes the selections in one transaction, and returns the rows of each.
// address is unix:PATH or tcp:HOST:PORT.
func read(ctx context.Context, address, database string, selections ...selection) ([][]row, error) {
	network, where, _ := strings.Cut(address, ":")
	if network != "unix" && network != "tcp" || where == "" {
		return nil, fmt.Errorf("database %q: want such as unix:/run/openvswitch/db.sock or tcp:192.0.2.1:6640", address)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, where)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	params := []any{database}
	for _, s := range selections {
		params = append(params, s)
	}
	request, err := json.Marshal(map[string]any{"method": "transact", "params": params, "id": 1})
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(request); err != nil {
		return nil, fmt.Errorf("database %s: %w", address, err)
	}
	result, err := await(conn)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", address, err)
	}
	tables, err := parseRows(result, len(selections))
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", address, err)
	}
	return tables, nil
}

// await reads until the response, and answers echo requests (section 4.1.11).
func await(conn io.ReadWriter) (json.RawMessage, error) {
	d := json.NewDecoder(io.LimitReader(conn, maxReply))
	for {
		var m message
		if err := d.Decode(&m); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrReply, err)
		}
		switch {
		case m.Method == "echo":
			answer, err := json.Marshal(message{Result: m.Params, Error: json.RawMessage("null"), ID: m.ID})
			if err != nil {
				return nil, err
			}
			if _, err := conn.Write(answer); err != nil {
				return nil, err
			}
		case m.Method != "":
		case len(m.Error) > 0 && string(m.Error) != "null":
			return nil, fmt.Errorf("the server refused: %s", m.Error)
		default:
			return m.Result, nil
		}
	}
}

// parseRows reads the result of a transaction: for each operation the rows, or
// what failed.
func parseRows(result json.RawMessage, operations int) ([][]row, error) {
	var parts []*struct {
		Rows    []row  `json:"rows"`
		Error   string `json:"error"`
		Details string `json:"details"`
	}
	if err := json.Unmarshal(result, &parts); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReply, err)
	}
	var tables [][]row
	for _, p := range parts {
		if p == nil {
			continue // not executed, as one before failed
		}
		if p.Error != "" {
			return nil, fmt.Errorf("the server refused: %s: %s", p.Error, p.Details)
		}
		tables = append(tables, p.Rows)
	}
	if len(tables) != operations {
		return nil, fmt.Errorf("%w: %d results of %d", ErrReply, len(tables), operations)
	}
	return tables, nil
}

// The values of a column (section 5.1): an atom, ["set", [...]],
// ["map", [[key, value], ...]], or ["uuid", "..."]. What is of another form is
// empty.

func (r row) text(column string) (s string) {
	_ = json.Unmarshal(r[column], &s)
	return s
}

// number is 0 for an empty set.
func (r row) number(column string) (n int64) {
	_ = json.Unmarshal(r[column], &n)
	return n
}

// strings are the members of a set of strings, or the only one.
func (r row) strings(column string) (all []string) {
	if s := r.text(column); s != "" {
		return []string{s}
	}
	for _, v := range tagged(r[column], "set") {
		var s string
		if json.Unmarshal(v, &s) == nil {
			all = append(all, s)
		}
	}
	return all
}

// references are the UUIDs in a set, or the only one.
func (r row) references(column string) (all []string) {
	members := tagged(r[column], "set")
	if members == nil {
		members = []json.RawMessage{r[column]}
	}
	for _, v := range members {
		var pair []string
		if json.Unmarshal(v, &pair) == nil && len(pair) == 2 && pair[0] == "uuid" {
			all = append(all, pair[1])
		}
	}
	return all
}

func (r row) dictionary(column string) map[string]string {
	m := map[string]string{}
	for _, v := range tagged(r[column], "map") {
		var pair []string
		if json.Unmarshal(v, &pair) == nil && len(pair) == 2 {
			m[pair[0]] = pair[1]
		}
	}
	return m
}

// tagged takes [tag, [...]] apart; nil if v is of another form.
func tagged(v json.RawMessage, tag string) []json.RawMessage {
	var pair []json.RawMessage
	var got string
	var members []json.RawMessage
	if json.Unmarshal(v, &pair) != nil || len(pair) != 2 || json.Unmarshal(pair[0], &got) != nil || got != tag || json.Unmarshal(pair[1], &members) != nil {
		return nil
	}
	if members == nil {
		members = []json.RawMessage{}
	}
	return members
}
