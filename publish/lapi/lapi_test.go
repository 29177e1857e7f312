package lapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/publish"
	"dragnet/publish/lapi"
	"dragnet/publish/publishtest"
)

// bouncers is a server over a source, with keys "key1" and "key2".
type bouncers struct {
	testing.TB
	source *publishtest.Source
	feed   *publish.Feed
	server *lapi.Server
	keys   string
	mu     sync.Mutex // protects server where it is restarted under a client
}

func (b *bouncers) current() *lapi.Server {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.server
}

func start(t testing.TB) *bouncers {
	t.Helper()
	b := &bouncers{TB: t, source: publishtest.New(), keys: filepath.Join(t.TempDir(), "bouncers")}
	if err := os.WriteFile(b.keys, []byte("# who may read\n"+lapi.KeyLine("one", "key1")+"\n"+lapi.KeyLine("two", "key2")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.source.List("g1", []string{"in dport=445"}, 75, "198.51.100.7", "2001:db8::7")
	b.source.List("g2", nil, 40, "203.0.113.9", "198.51.100.7")
	b.feed = b.source.Feed(t)
	b.restart()
	return b
}

func (b *bouncers) restart() {
	b.Helper()
	keys, err := lapi.OpenKeys(b.keys)
	if err != nil {
		b.Fatal(err)
	}
	server := lapi.New(keys, b.feed.Now)
	server.Update(lapi.FromView(publishtest.Refresh(b, b.feed), 50))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.server = server
}

func (b *bouncers) update() {
	b.Helper()
	b.server.Update(lapi.FromView(publishtest.Refresh(b, b.feed), 50))
}

func (b *bouncers) ask(key, path string, status int) string {
	b.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("X-Api-Key", key)
	w := httptest.NewRecorder()
	b.server.ServeHTTP(w, r)
	if w.Code != status {
		b.Fatalf("%s gave %d, want %d: %s", path, w.Code, status, w.Body)
	}
	return w.Body.String()
}

type decision struct{ Origin, Type, Scope, Value, Duration, Scenario string }

// stream pulls, and gives the values of what is new and deleted.
func (b *bouncers) stream(key, query string) (fresh, deleted string, all []decision) {
	b.Helper()
	var answer struct{ New, Deleted []decision }
	if err := json.Unmarshal([]byte(b.ask(key, "/v1/decisions/stream?"+query, 200)), &answer); err != nil {
		b.Fatal(err)
	}
	values := func(all []decision) string {
		var out []string
		for _, d := range all {
			out = append(out, d.Value)
		}
		return strings.Join(out, " ")
	}
	return values(answer.New), values(answer.Deleted), answer.New
}

func (b *bouncers) want(key, query, fresh, deleted string) {
	b.Helper()
	if f, d, _ := b.stream(key, query); f != fresh || d != deleted {
		b.Errorf("%s: new %q, deleted %q; want %q, %q", query, f, d, fresh, deleted)
	}
}

func TestStreamIsTheListAndItsChanges(t *testing.T) {
	b := start(t)
	_, _, all := b.stream("key1", "startup=true")
	want := decision{"dragnet", "ban", "Ip", "198.51.100.7", "24h0m0s", "dragnet/pattern in dport=445"}
	if len(all) != 2 || all[0] != want {
		t.Fatalf("startup: %+v", all)
	}
	if got := b.ask("key1", "/v1/decisions/stream?startup=false", 200); got != `{"new":null,"deleted":null}` {
		t.Errorf("nothing new gave %s", got)
	}
	b.want("key2", "startup=true&scopes=ip,range&additional_pull=false", "198.51.100.7 2001:db8::7", "")
	b.source.Advance(time.Minute)
	b.source.List("g3", nil, 90, "203.0.113.50")
	b.source.Withdraw("g1", "198.51.100.7")
	b.update()
	b.want("key1", "startup=false", "203.0.113.50", "198.51.100.7")
	b.want("key1", "startup=false", "", "")
	b.want("key2", "", "203.0.113.50", "198.51.100.7") // each has its own position
	// A second bouncer may share the key at another address; this is the same one that starts again.
	b.want("key1", "startup=true", "203.0.113.50 2001:db8::7", "")
	// The server restarts while the bouncer runs: it is told everything, and what has gone.
	b.restart()
	b.want("key1", "startup=false", "203.0.113.50 2001:db8::7", "198.51.100.7")
	b.want("key1", "startup=false", "", "")
}

// TestOneRemovalOfTwoLeavesTheBan: a host in two groups stays banned until the
// last sure entry has gone.
func TestOneRemovalOfTwoLeavesTheBan(t *testing.T) {
	b := start(t)
	b.source.List("g4", nil, 60, "198.51.100.7")
	b.update()
	b.stream("key1", "startup=true")
	b.source.Withdraw("g1", "198.51.100.7")
	b.update()
	if fresh, deleted, _ := b.stream("key1", ""); deleted != "" {
		t.Errorf("new %q, deleted %q", fresh, deleted)
	}
	b.source.Withdraw("g4", "198.51.100.7") // g2 is not sure enough
	b.update()
	b.want("key1", "", "", "198.51.100.7")
}

// TestProlongedBansAreToldAgain: a packet filter keeps the first time of an
// element, so it gets the ban once more when that is over.
func TestProlongedBansAreToldAgain(t *testing.T) {
	b := start(t)
	b.stream("key1", "startup=true")
	b.source.Advance(time.Hour)
	b.source.List("g1", []string{"in dport=445"}, 75, "198.51.100.7")
	b.update()
	b.want("key1", "", "198.51.100.7", "")
	b.source.Advance(22 * time.Hour)
	b.want("key1", "", "", "")
	b.source.Advance(time.Hour + 20*time.Second) // a day after the first listing
	b.want("key1", "", "198.51.100.7", "")
	b.source.Advance(10 * time.Second)
	b.want("key1", "", "", "")
}

func TestFilters(t *testing.T) {
	b := start(t)
	for query, want := range map[string]string{
		"startup=true&scopes=range": "", "startup=true&origins=crowdsec": "", "startup=true&origins=crowdsec,dragnet": "198.51.100.7 2001:db8::7",
		"startup=true&scenarios_containing=dport": "198.51.100.7 2001:db8::7", "startup=true&scenarios_containing=ssh": "", "startup=true&scenarios_not_containing=DPORT": "",
	} {
		b.want("key1", query, want, "")
	}
	for query, want := range map[string]string{
		"?ip=198.51.100.7": "198.51.100.7", "?ip=192.0.2.1": "", "?scope=Ip&value=2001:db8::7": "2001:db8::7", "?type=captcha": "", "?range=198.51.100.0/24": "", "": "198.51.100.7",
	} {
		got := b.ask("key1", "/v1/decisions"+query, 200)
		if want == "" && got != "null" || !strings.Contains(got, want) {
			t.Errorf("%s gave %s", query, got)
		}
	}
	b.ask("key1", "/v1/decisions?ip=example.org", 400)
	b.ask("key1", "/v1/decisions?range=1.2.3.4/99", 400)
	b.ask("key1", "/v1/alerts", 404)
	b.ask("key3", "/v1/decisions", 403)
	b.ask("", "/v1/decisions", 403)
	if b.server.Refused.Load() != 2 {
		t.Errorf("%d refused", b.server.Refused.Load())
	}
	for path, want := range map[string]int{"/v1/usage-metrics": 201, "/v1/decisions": 404} {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader("{}"))
		r.Header.Set("X-Api-Key", "key1")
		w := httptest.NewRecorder()
		if b.server.ServeHTTP(w, r); w.Code != want {
			t.Errorf("POST %s gave %d", path, w.Code)
		}
	}
}

func TestKeysCanBeTakenBack(t *testing.T) {
	b := start(t)
	b.ask("key1", "/v1/decisions", 200)
	if err := os.WriteFile(b.keys, []byte(lapi.KeyLine("two", "key2")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(b.keys, time.Now(), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	b.ask("key1", "/v1/decisions", 403)
	b.ask("key2", "/v1/decisions", 200)
	for _, bad := range []string{"one", "one xyz", "one 00"} {
		if err := os.WriteFile(b.keys, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := lapi.OpenKeys(b.keys); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q gave %v", bad, err)
		}
	}
}

func TestRangesOfDecisions(t *testing.T) {
	b := start(t)
	now := b.feed.Now()
	until := now + flow.Time(time.Hour)
	d := func(target string, v dossier.Verdict) dossier.Decision {
		return dossier.Decision{Target: netip.MustParsePrefix(target), Verdict: v, Until: until, Why: "scans"}
	}
	b.server.Update(lapi.FromDecisions([]dossier.Decision{d("198.51.100.0/24", dossier.Active), d("203.0.113.1/32", dossier.DryRun), d("203.0.113.2/32", dossier.Undone),
		{Target: netip.MustParsePrefix("0.0.0.0/0"), Verdict: dossier.Active, Until: until, Standing: &dossier.Standing{Rule: "daw"}}}, now))
	if got := b.ask("key1", "/v1/decisions?ip=198.51.100.200", 200); !strings.Contains(got, `"scope":"Range","value":"198.51.100.0/24"`) {
		t.Errorf("an address within a range gave %s", got)
	}
	b.want("key1", "startup=true", "198.51.100.0/24", "")
	b.want("key2", "", "198.51.100.0/24", "203.0.113.2")
}

func FuzzRequests(f *testing.F) {
	b := start(f)
	for _, s := range []string{"/v1/decisions/stream?startup=true", "/v1/decisions?ip=1.2.3.4&range=::/0", "/v1/decisions?range=1.2.3.4%2F99", "/?%zz"} {
		f.Add(s, "key1")
	}
	f.Fuzz(func(t *testing.T, path, key string) {
		r, err := http.NewRequest(http.MethodGet, "http://x"+path, nil)
		if err != nil {
			return
		}
		r.Header.Set("X-Api-Key", key)
		r.RemoteAddr = "192.0.2.1:5"
		w := httptest.NewRecorder()
		b.server.ServeHTTP(w, r)
		if w.Code >= 500 || key != "key1" && key != "key2" && w.Code != 403 {
			t.Fatalf("%q with %q gave %d", path, key, w.Code)
		}
		if w.Code == 200 && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%q gave %s", path, w.Body)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add("one 00\n#\n" + lapi.KeyLine("x", "y"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "k")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := lapi.OpenKeys(path)
		if err != nil {
			return
		}
		if _, ok := k.Name(""); ok {
			t.Fatal("an empty key was taken")
		}
	})
}

func ExampleKeyLine() {
	fmt.Println(lapi.KeyLine("firewall", "s3cret"))
	// Output: firewall 1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0
}

// TestDurationsAreGos compares with time.Duration.
func TestDurationsAreGos(t *testing.T) {
	b := start(t)
	for _, d := range []time.Duration{0, time.Second, 59 * time.Second, time.Minute, 3599 * time.Second, time.Hour, 1000*time.Hour + 61*time.Second} {
		b.server.Update([]lapi.Ban{{Target: netip.MustParsePrefix("192.0.2.1/32"), Until: b.feed.Now() + flow.Time(d) + 1, Scenario: "s"}}, nil)
		_, _, all := b.stream("key1", "startup=true")
		if len(all) != 1 || all[0].Duration != d.String() {
			t.Errorf("%v: %+v", d, all)
		}
	}
}
