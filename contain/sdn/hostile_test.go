package sdn

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/contain/sdn/openflow"
	"dragnet/dossier"
)

// script answers one message of a controller; nil is silence.
type script func(m openflow.Message) []openflow.Message

// start runs a switch that follows a script, and returns it as configured.
func start(t *testing.T, answer script) Configuration {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					m, err := openflow.ReadMessage(conn)
					if err != nil {
						return
					}
					for _, a := range answer(m) {
						if a.Type == closing {
							return
						}
						if _, err := conn.Write(a.Append(nil)); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	c := DefaultConfiguration()
	c.Address, c.Enforce, c.Timeout = "unix:"+path, true, 2*time.Second
	return c
}

// closing marks the end of the connection.
const closing openflow.Type = 250

func reply(m openflow.Message, t openflow.Type, body []byte) openflow.Message {
	return openflow.Message{Version: openflow.Version13, Type: t, XID: m.XID, Body: body}
}

// table is a switch that works, but for what a test changes: it has no
// bundles.
type table struct {
	mu      sync.Mutex
	rules   []openflow.Rule
	ports   []string // numbered from 1
	refuses bool     // to add one of the sources
	// refusesAll: to add any.
	refusesAll bool
	forgets    bool // confirms additions and does nothing
	keeps      bool // confirms deletions and does nothing
}

func (w *table) answer(m openflow.Message) []openflow.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch m.Type {
	case openflow.Hello:
		return []openflow.Message{reply(m, openflow.Hello, openflow.HelloBody())}
	case openflow.FeaturesRequest:
		// Unsolicited messages and an echo request come in between.
		return []openflow.Message{reply(m, 12, make([]byte, 72)), reply(m, openflow.EchoRequest, []byte("x")), reply(m, openflow.FeaturesReply, make([]byte, 24))}
	case openflow.BarrierRequest:
		return []openflow.Message{reply(m, openflow.BarrierReply, nil)}
	case openflow.Experimenter:
		return []openflow.Message{reply(m, openflow.Error, []byte{0, 1, 0, 3})}
	case openflow.MultipartRequest:
		if kind := openflow.Multipart(binary.BigEndian.Uint16(m.Body)); kind == openflow.PortList {
			return []openflow.Message{reply(m, openflow.MultipartReply, append([]byte{0, byte(kind), 0, 0, 0, 0, 0, 0}, encodePorts(w.ports)...))}
		}
		return []openflow.Message{reply(m, openflow.MultipartReply, append([]byte{0, 1, 0, 0, 0, 0, 0, 0}, encodeStats(w.rules)...))}
	case openflow.FlowMod:
		return w.modify(m)
	}
	return nil
}

// set changes how it behaves from now on.
func (w *table) set(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

func (w *table) list() []openflow.Rule {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.rules)
}

// encodeStats turns rules into a flow stats reply, by way of AddRule: match and
// instructions have the same form.
func encodeStats(rules []openflow.Rule) (b []byte) {
	for _, r := range rules {
		rest := openflow.AddRule(r)[40:]
		one := make([]byte, 48, 48+len(rest))
		binary.BigEndian.PutUint16(one, uint16(48+len(rest)))
		binary.BigEndian.PutUint16(one[12:], r.Priority)
		binary.BigEndian.PutUint16(one[16:], r.Hard)
		binary.BigEndian.PutUint64(one[24:], r.Cookie)
		b = append(append(b, one...), rest...)
	}
	return b
}

func encodePorts(names []string) (b []byte) {
	for i, name := range names {
		one := make([]byte, 64)
		binary.BigEndian.PutUint32(one, uint32(i+1))
		copy(one[16:32], name)
		b = append(b, one...)
	}
	return b
}

func (w *table) modify(m openflow.Message) []openflow.Message {
	stats := append(make([]byte, 48), m.Body[40:]...)
	binary.BigEndian.PutUint16(stats, uint16(len(stats)))
	parsed, err := openflow.ParseRules(stats)
	if err != nil {
		panic(err)
	}
	r := parsed[0].Rule
	r.Cookie, r.Hard, r.Priority = binary.BigEndian.Uint64(m.Body), binary.BigEndian.Uint16(m.Body[20:]), binary.BigEndian.Uint16(m.Body[22:])
	add := m.Body[17] == 0
	switch {
	case add && w.refusesAll, add && w.refuses && r.Match.Source.Addr().String() == "10.0.0.2":
		return []openflow.Message{reply(m, openflow.Error, []byte{0, 5, 0, 1})}
	case add && !w.forgets:
		w.rules = append(w.rules, r)
	case !add && !w.keeps:
		left := w.rules[:0]
		for _, have := range w.rules {
			cookie, mask := binary.BigEndian.Uint64(m.Body), binary.BigEndian.Uint64(m.Body[8:])
			if r.Match.Source.IsValid() && have.Match != r.Match || have.Cookie&mask != cookie&mask {
				left = append(left, have)
			}
		}
		w.rules = left
	}
	return nil
}

func TestSwitchWithoutBundles(t *testing.T) {
	w := &table{}
	s, err := New(start(t, w.answer))
	if err != nil {
		t.Fatal(err)
	}
	r := apply(t, s, blocking("10.0.0.1/32", time.Hour), blocking("10.0.1.0/24", time.Hour))
	if !r[0].Applied || !r[1].Applied || len(w.list()) != 2 {
		t.Fatalf("%+v, %+v", r, w.list())
	}
	// It refuses one of two changes: it has what it had.
	w.set(func() { w.refuses = true })
	before := w.list()[0].Match
	r, err = s.Apply(t.Context(), now(), []dossier.Decision{blocking("10.0.0.3/32", time.Hour), blocking("10.0.0.2/32", time.Hour)})
	var f openflow.Failure
	if !errors.As(err, &f) || f.Error() != "the switch refused: flow_mod failed: table full" || r[0].Applied || r[1].Applied {
		t.Errorf("%+v, %v", r, err)
	}
	if left := w.list(); len(left) != 2 || left[0].Match != before {
		t.Errorf("after a refusal it has %+v", left)
	}
}

func TestSwitchThatLies(t *testing.T) {
	w := &table{forgets: true}
	s, err := New(start(t, w.answer))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Apply(t.Context(), now(), []dossier.Decision{blocking("10.0.0.1/32", time.Hour)})
	if !errors.Is(err, ErrContradiction) || r[0].Applied || r[0].Problem == "" {
		t.Errorf("a switch that forgets: %+v, %v", r, err)
	}
	w.set(func() { w.forgets = false })
	apply(t, s, blocking("10.0.0.1/32", time.Hour))
	w.set(func() { w.keeps = true })
	if _, err := s.Remove(t.Context()); !errors.Is(err, ErrContradiction) {
		t.Errorf("a switch that keeps rules: %v", err)
	}
	if _, err := s.Apply(t.Context(), now(), nil); !errors.Is(err, ErrContradiction) {
		t.Errorf("a switch that keeps rules: %v", err)
	}
	// It lists another action under our cookie: that is not proof.
	w.set(func() { w.keeps, w.forgets, w.rules[0].Action = false, true, openflow.Action{Ports: []uint32{7}} })
	if r, err = s.Apply(t.Context(), now(), []dossier.Decision{blocking("10.0.0.1/32", time.Hour)}); !errors.Is(err, ErrContradiction) || r[0].Applied {
		t.Errorf("another action: %+v, %v", r, err)
	}
}

func TestSwitchThatMisbehaves(t *testing.T) {
	good := &table{}
	on := func(kind openflow.Type, do script) script {
		return func(m openflow.Message) []openflow.Message {
			if m.Type == kind {
				return do(m)
			}
			return good.answer(m)
		}
	}
	flood := func(m openflow.Message) []openflow.Message {
		all := make([]openflow.Message, 2*maxOthers)
		for i := range all {
			all[i] = reply(m, 12, nil)
		}
		return all
	}
	endless := func(m openflow.Message) []openflow.Message {
		all := make([]openflow.Message, 2*maxOthers)
		for i := range all {
			all[i] = reply(m, openflow.MultipartReply, []byte{0, 1, 0, 1, 0, 0, 0, 0})
		}
		return all
	}
	for name, c := range map[string]struct {
		answer script
		want   error
	}{
		"silent":                  {func(openflow.Message) []openflow.Message { return nil }, ErrUnreachable},
		"hangs up at once":        {func(m openflow.Message) []openflow.Message { return []openflow.Message{reply(m, closing, nil)} }, ErrUnreachable},
		"hangs up later":          {on(openflow.MultipartRequest, func(m openflow.Message) []openflow.Message { return []openflow.Message{reply(m, closing, nil)} }), ErrUnreachable},
		"hangs up at the barrier": {on(openflow.BarrierRequest, func(m openflow.Message) []openflow.Message { return []openflow.Message{reply(m, closing, nil)} }), ErrUnreachable},
		"silent at the barrier":   {on(openflow.BarrierRequest, func(openflow.Message) []openflow.Message { return nil }), ErrUnreachable},
		"other version": {on(openflow.Hello, func(m openflow.Message) []openflow.Message {
			return []openflow.Message{{Version: 1, Type: openflow.Hello, XID: m.XID}}
		}), ErrProtocol},
		"no hello": {on(openflow.Hello, func(m openflow.Message) []openflow.Message {
			return []openflow.Message{reply(m, openflow.BarrierReply, nil)}
		}), ErrProtocol},
		"refuses": {on(openflow.Hello, func(m openflow.Message) []openflow.Message {
			return []openflow.Message{reply(m, openflow.Error, []byte{0, 0, 0, 1})}
		}), ErrProtocol},
		"floods":  {on(openflow.MultipartRequest, flood), ErrProtocol},
		"endless": {on(openflow.MultipartRequest, endless), ErrProtocol},
		"bad list": {on(openflow.MultipartRequest, func(m openflow.Message) []openflow.Message {
			return []openflow.Message{reply(m, openflow.MultipartReply, []byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 1})}
		}), ErrProtocol},
		"other list": {on(openflow.MultipartRequest, func(m openflow.Message) []openflow.Message {
			return []openflow.Message{reply(m, openflow.MultipartReply, []byte{0, 13, 0, 0, 0, 0, 0, 0})}
		}), ErrProtocol},
		"short features": {on(openflow.FeaturesRequest, func(m openflow.Message) []openflow.Message {
			return []openflow.Message{reply(m, openflow.FeaturesReply, []byte{1})}
		}), ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			good.set(func() { good.rules = nil })
			config := start(t, c.answer)
			if strings.Contains(name, "silent") {
				config.Timeout = 200 * time.Millisecond
			}
			s, err := New(config)
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Apply(t.Context(), now(), []dossier.Decision{blocking("10.0.0.1/32", time.Hour)})
			if !errors.Is(err, c.want) || len(r) != 1 || r[0].Applied || r[0].Problem == "" {
				t.Errorf("%+v, %v; want %v", r, err, c.want)
			}
		})
	}
	c := DefaultConfiguration()
	c.Address = "unix:" + filepath.Join(t.TempDir(), "nobody")
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rules(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("no listener: %v", err)
	}
}

func TestConfigurationMistakes(t *testing.T) {
	for what, spoil := range map[string]func(*Configuration){
		"address": func(c *Configuration) { c.Address = "10.0.0.1:6653" }, "needs tls": func(c *Configuration) { c.Address = "ssl:10.0.0.1:6653" },
		"restraint": func(c *Configuration) { c.Restraint = "ban" }, "meter": func(c *Configuration) { c.Restraint, c.Rate = Slow, 0 },
		"name of a port": func(c *Configuration) { c.Restraint = Reroute }, "lease": func(c *Configuration) { c.Lease = 24 * time.Hour },
		"timeout": func(c *Configuration) { c.Timeout = 0 },
	} {
		c := DefaultConfiguration()
		c.Address = "unix:x"
		spoil(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCookieHoldsOnlyOurs(t *testing.T) {
	if a, b := cookieOf("A"), cookieOf("B"); a == b || a&ourMask != ourCookie || !bytes.Equal(binary.BigEndian.AppendUint64(nil, a)[:4], []byte("drag")) {
		t.Errorf("cookies %x and %x", a, b)
	}
}
