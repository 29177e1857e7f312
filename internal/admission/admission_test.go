package admission_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dragnet/internal/admission"
)

// serve is a server over TLS whose known callers come from 127.0.0.1.
func serve(t *testing.T, l admission.Limits, connections int, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	gate := admission.NewGate(l)
	s := httptest.NewUnstartedServer(gate.Handler(handler, func(r *http.Request) admission.Caller {
		if strings.HasPrefix(r.RemoteAddr, "127.0.0.1:") {
			return admission.Caller{Name: "member", Known: true}
		}
		return admission.Address(r)
	}, func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}))
	s.Listener = admission.Listen(s.Listener, connections)
	s.Config.ConnContext = admission.ConnContext
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// from is a client with its own connections from an address of this machine.
func from(t *testing.T, s *httptest.Server, address string) *http.Client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{DialContext: d.DialContext, TLSClientConfig: s.Client().Transport.(*http.Transport).TLSClientConfig.Clone(), ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func limits() admission.Limits {
	return admission.Limits{Places: 8, Reading: 4, Bytes: 1 << 20, Body: 128 << 10, Time: time.Minute}
}

func echo(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }

func post(c *http.Client, url string, body io.Reader) string {
	a, err := c.Post(url, "text/plain", body)
	if err != nil {
		return "error: " + err.Error()
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(b)
}

// TestBodiesThatNeverEnd: requests that never finish, from a few addresses, keep
// no one else out.
func TestBodiesThatNeverEnd(t *testing.T) {
	s := serve(t, limits(), 1000, echo)
	for n := range 3 {
		stranger := from(t, s, fmt.Sprintf("127.0.0.%d", n+2))
		stranger.Timeout = 0
		for range 40 {
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			half, w := io.Pipe()
			t.Cleanup(func() { w.Close() })
			go w.Write(make([]byte, 1000))
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, half)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				if a, err := stranger.Do(r); err == nil {
					a.Body.Close()
				}
			}()
		}
	}
	time.Sleep(200 * time.Millisecond) // they are there; if not, the test is easier to pass, not harder
	for _, address := range []string{"127.0.0.1", "127.0.0.9"} {
		if got := post(from(t, s, address), s.URL, strings.NewReader("hello")); got != "hello" {
			t.Errorf("from %s: %q", address, got)
		}
	}
}

// TestMemoryIsShared: a stranger with large bodies is refused before memory is used
// up.
func TestMemoryIsShared(t *testing.T) {
	l := limits()
	l.Places, l.Reading = 100, 100
	hold := make(chan struct{})
	var holding atomic.Int64
	s := serve(t, l, 1000, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			holding.Add(1)
			<-hold
		}
		echo(w, r)
	})
	defer close(hold)
	stranger := from(t, s, "127.0.0.2")
	refused := 0
	for n := range 8 { // of 100 kB: a quarter of 1 MiB takes two
		go func() { post(stranger, s.URL+"/hold", strings.NewReader(strings.Repeat("x", 100<<10))) }()
		for deadline := time.Now().Add(10 * time.Second); holding.Load() < int64(min(n+1, 2)) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	if got := post(stranger, s.URL, strings.NewReader(strings.Repeat("x", 100<<10))); strings.Contains(got, "busy") {
		refused++
	}
	if refused == 0 || holding.Load() > 2 {
		t.Errorf("%d bodies of a stranger are held, one more refused: %v", holding.Load(), refused > 0)
	}
	if got := post(from(t, s, "127.0.0.1"), s.URL, strings.NewReader(strings.Repeat("y", 100<<10))); len(got) != 100<<10 {
		t.Errorf("a member: %.50q", got)
	}
}

func TestBounds(t *testing.T) {
	l := limits()
	l.Time = 300 * time.Millisecond
	s := serve(t, l, 1000, echo)
	c := from(t, s, "127.0.0.1")
	if got := post(c, s.URL, strings.NewReader(strings.Repeat("x", 200<<10))); !strings.Contains(got, "too large") {
		t.Errorf("a large body: %.60q", got)
	}
	half, w := io.Pipe()
	defer w.Close()
	go w.Write([]byte("half"))
	if got := post(c, s.URL, half); !strings.Contains(got, "in time") {
		t.Errorf("half a body: %.60q", got)
	}
	if got := post(c, s.URL, strings.NewReader("whole")); got != "whole" {
		t.Errorf("afterwards: %q", got)
	}
}

// TestIdleConnectionsAreClosedForRoom: strangers with many idle connections keep
// neither members nor other strangers out, and a member's connection stays.
func TestIdleConnectionsAreClosedForRoom(t *testing.T) {
	s := serve(t, limits(), 64, echo)
	member := from(t, s, "127.0.0.1")
	if got := post(member, s.URL, strings.NewReader("first")); got != "first" {
		t.Fatal(got)
	}
	for n := range 20 {
		for range 20 {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(n+1))}}
			c, err := d.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake()
		}
	}
	for _, address := range []string{"127.0.0.1", "127.0.0.9"} {
		if got := post(from(t, s, address), s.URL, strings.NewReader("hello")); got != "hello" {
			t.Errorf("from %s: %q", address, got)
		}
	}
	if got := post(member, s.URL, strings.NewReader("again")); got != "again" {
		t.Errorf("on the member's first connection: %q", got)
	}
}

// TestPlacesAreGivenInTurn: one request of a caller waits behind one of each other
// caller, not behind all of another's.
func TestPlacesAreGivenInTurn(t *testing.T) {
	f := admission.NewFair(1)
	greedy, modest := admission.Caller{Name: "greedy", Known: true}, admission.Caller{Name: "modest", Known: true}
	if err := f.Acquire(t.Context(), greedy); err != nil {
		t.Fatal(err)
	}
	order := make(chan string, 200)
	for range 100 {
		go func() {
			if f.Acquire(t.Context(), greedy) == nil {
				order <- "greedy"
				f.Release(greedy)
			}
		}()
	}
	time.Sleep(50 * time.Millisecond)
	go func() {
		if f.Acquire(t.Context(), modest) == nil {
			order <- "modest"
			f.Release(modest)
		}
	}()
	time.Sleep(50 * time.Millisecond)
	f.Release(greedy)
	for n := range 101 {
		if <-order == "modest" {
			if n > 10 {
				t.Errorf("the modest caller came after %d of the other's", n)
			}
			return
		}
	}
}

// TestFairGivesUpPlacesOfThoseWhoLeave: no place is lost whatever is cancelled.
func TestFairGivesUpPlacesOfThoseWhoLeave(t *testing.T) {
	f := admission.NewFair(3)
	done := make(chan struct{})
	for n := range 200 {
		c := admission.Caller{Name: fmt.Sprint(n % 7), Known: n%2 == 0}
		go func() {
			defer func() { done <- struct{}{} }()
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n%5)*time.Millisecond)
			defer cancel()
			if f.Acquire(ctx, c) == nil {
				time.Sleep(time.Millisecond)
				f.Release(c)
			}
		}()
	}
	for range 200 {
		<-done
	}
	for n := range 3 {
		if err := f.Acquire(t.Context(), admission.Caller{Name: fmt.Sprint("last", n), Known: true}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := f.Acquire(ctx, admission.Caller{Name: "one more"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a fourth place of three: %v", err)
	}
}

// TestAKnownCallerHasAShare: a member with many connections loses its own oldest, and
// leaves room for others.
func TestAKnownCallerHasAShare(t *testing.T) {
	s := serve(t, limits(), 64, echo) // 8 for each
	var all []*http.Client
	for range 20 {
		c := from(t, s, "127.0.0.1")
		if got := post(c, s.URL, strings.NewReader("hello")); got != "hello" {
			t.Fatal(got)
		}
		all = append(all, c)
	}
	kept := 0
	for _, c := range all[12:] {
		trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			if i.Reused {
				kept++
			}
		}})
		r, err := http.NewRequestWithContext(trace, http.MethodPost, s.URL, strings.NewReader("again"))
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
	}
	if kept != 8 {
		t.Errorf("%d of the 8 newest connections were kept", kept)
	}
}
