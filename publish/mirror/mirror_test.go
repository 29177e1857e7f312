package mirror_test

import (
	"context"
	"errors"
	"fmt"

	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dragnet/internal/testkit"
	"dragnet/publish"
	"dragnet/publish/mirror"
	"dragnet/publish/publishtest"
	"dragnet/wire/identity"
)

// publisher is a tree with its source.
type publisher struct {
	testing.TB
	source *publishtest.Source
	feed   *publish.Feed
	key    *identity.Key
	dir    string
	tree   *mirror.Tree
}

func newPublisher(t testing.TB) *publisher {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	p := &publisher{TB: t, source: publishtest.New(), key: key, dir: t.TempDir()}
	p.source.List("g1", []string{"in dport=445"}, 75, "198.51.100.7", "2001:db8::7")
	p.source.List("g2", []string{}, 60, "203.0.113.9", "198.51.100.7")
	p.feed = p.source.Feed(t)
	p.open()
	return p
}

func (p *publisher) open() {
	p.Helper()
	c := mirror.DefaultConfiguration()
	c.Directory = p.dir
	var err error
	if p.tree, err = mirror.NewTree(c, p.key, time.Hour); err != nil {
		p.Fatal(err)
	}
}

func (p *publisher) publish() *mirror.Manifest {
	p.Helper()
	m, err := p.tree.Publish(publishtest.Refresh(p, p.feed))
	if err != nil {
		p.Fatal(err)
	}
	return m
}

func (p *publisher) current() string { return filepath.Join(p.dir, mirror.Current) }

func (p *publisher) read(name string) string {
	p.Helper()
	b, err := os.ReadFile(filepath.Join(p.current(), name))
	if err != nil {
		p.Fatal(err)
	}
	return string(b)
}

func TestPublicationHoldsTheList(t *testing.T) {
	p := newPublisher(t)
	p.publish()
	for name, want := range map[string]string{
		"hosts4.txt": "198.51.100.7\n203.0.113.9\n", "hosts6.txt": "2001:db8::7\n", "entries.jsonl": `"reason":"pattern in dport=445, reported by at least 2 independent organisations since 2026-03-01T11:00:00Z"`,
		"entries.csv": "203.0.113.9,g2,2026-03-01T11:00:00Z,", "group/g2.txt": "198.51.100.7\n203.0.113.9\n", "groups.jsonl": `"patterns":["in dport=445"]`, "patterns.csv": ".txt,in dport=445",
	} {
		if got := p.read(name); !strings.Contains(got, want) {
			t.Errorf("%s lacks %q:\n%s", name, want, got)
		}
	}
	p.source.Advance(time.Hour)
	p.source.Withdraw("g2", "203.0.113.9")
	m := p.publish()
	if got := p.read("delta/000000000002.jsonl"); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"kind":"removed"`) {
		t.Errorf("the delta of one removal is %s", got)
	}
	// Who restarts goes on: the delta stays, the number rises.
	p.open()
	p.source.Advance(time.Hour)
	if next := p.publish(); next.Head.Number != 3 || next.Head.Previous != m.Head.Root {
		t.Errorf("after a restart: %+v", next.Head)
	}
	if got := p.read("delta/000000000002.jsonl"); !strings.Contains(got, "removed") || p.read("delta/000000000003.jsonl") != "" {
		t.Errorf("deltas after a restart: %q", got)
	}
	folders, err := os.ReadDir(p.dir)
	if err != nil || len(folders) != 3 { // two publications and the link
		t.Errorf("%v, %v", folders, err)
	}
}

// TestLyingMirrors alters a copy in every way we could think of.
func TestLyingMirrors(t *testing.T) {
	p := newPublisher(t)
	first := p.publish()
	old := t.TempDir()
	copyTree(t, p.current(), old)
	p.source.Advance(time.Hour)
	second := p.publish()
	now := p.source.Now()
	if _, err := mirror.Verify(p.current(), p.key.Public(), now, &first.Head); err != nil {
		t.Fatalf("an honest copy: %v", err)
	}
	other, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644) }
	}
	for name, c := range map[string]struct {
		lie  func(dir string) error
		want error
	}{
		"a host left out":      {write("hosts4.txt", "198.51.100.7\n"), mirror.ErrAltered},
		"a host added":         {write("hosts4.txt", "198.51.100.7\n203.0.113.9\n192.0.2.1\n"), mirror.ErrAltered},
		"a byte changed":       {write("hosts6.txt", "2001:db8::8\n"), mirror.ErrAltered},
		"a file added":         {write("hosts5.txt", "x"), mirror.ErrAltered},
		"a file left out":      {func(dir string) error { return os.Remove(filepath.Join(dir, "groups.jsonl")) }, mirror.ErrAltered},
		"a manifest emptied":   {write(mirror.ManifestName, "{}"), mirror.ErrAltered},
		"a manifest of noise":  {write(mirror.ManifestName, "\x00{"), mirror.ErrAltered},
		"a signature of noise": {write(mirror.SignatureName, "noise"), mirror.ErrForged},
		"an old signature": {func(dir string) error {
			b, err := os.ReadFile(filepath.Join(old, mirror.SignatureName))
			return errors.Join(err, os.WriteFile(filepath.Join(dir, mirror.SignatureName), b, 0o644))
		}, mirror.ErrAltered},
		"a signature by another": {func(dir string) error {
			tree, err := mirror.NewTree(mirror.Configuration{Directory: t.TempDir(), Deltas: time.Hour}, other, time.Hour)
			if err == nil {
				_, err = tree.Publish(p.feed.View())
			}
			return err
		}, nil},
		"a link to outside": {func(dir string) error {
			at := filepath.Join(dir, "hosts4.txt")
			return errors.Join(os.Remove(at), os.Symlink("/etc/passwd", at))
		}, mirror.ErrAltered},
	} {
		dir := t.TempDir()
		copyTree(t, p.current(), dir)
		if err := c.lie(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := mirror.Verify(dir, p.key.Public(), now, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
	}
	if _, err := mirror.Verify(p.current(), other.Public(), now, nil); !errors.Is(err, mirror.ErrForged) {
		t.Errorf("another publisher: %v", err)
	}
	if m, err := mirror.Verify(p.current(), p.key.Public(), now.Add(4*time.Hour), nil); !errors.Is(err, mirror.ErrStale) || m == nil {
		t.Errorf("four hours later: %v, %v", m, err)
	}
	if _, err := mirror.Verify(old, p.key.Public(), now, &second.Head); !errors.Is(err, mirror.ErrRolledBack) {
		t.Errorf("an old copy: %v", err)
	}
	seen := second.Head
	seen.Root = first.Head.Root
	if _, err := mirror.Verify(p.current(), p.key.Public(), now, &seen); !errors.Is(err, mirror.ErrForked) {
		t.Errorf("two publications under a number: %v", err)
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	from, err := filepath.EvalSymlinks(from)
	if err == nil {
		err = os.CopyFS(to, os.DirFS(from))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestEveryByteIsSigned flips bytes at random places of random files.
func TestEveryByteIsSigned(t *testing.T) {
	p := newPublisher(t)
	p.publish()
	r := rand.New(rand.NewPCG(1, 2))
	var names []string
	dir := t.TempDir()
	copyTree(t, p.current(), dir)
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 400 {
		name := filepath.Join(dir, names[r.IntN(len(names))])
		was, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(was) == 0 {
			continue
		}
		b := append([]byte(nil), was...)
		at := r.IntN(len(b))
		b[at] ^= byte(1 + r.IntN(255))
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err = mirror.Verify(dir, p.key.Public(), p.source.Now(), nil)
		// White space in the list of files does not matter: its content is signed.
		if err == nil && filepath.Base(name) != mirror.ManifestName {
			t.Fatalf("byte %d of %s changed unnoticed", at, name)
		}
		if err := os.WriteFile(name, was, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *publisher) copier(url, dir string) *mirror.Copier {
	return &mirror.Copier{URL: url, Directory: dir, Publisher: p.key.Public(), Now: p.source.Now}
}

func TestCopyFollows(t *testing.T) {
	p := newPublisher(t)
	first := p.publish()
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		p.tree.Handler().ServeHTTP(w, r)
	}))
	defer s.Close()
	c := p.copier(s.URL, t.TempDir())
	done, err := c.Copy(t.Context())
	if err != nil || done.Fetched != first.Head.Files || done.Bytes != first.Head.Bytes {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, err := mirror.Verify(filepath.Join(c.Directory, mirror.Current), p.key.Public(), p.source.Now(), nil); err != nil {
		t.Errorf("the copy: %v", err)
	}
	asked = nil
	if done, err = c.Copy(t.Context()); err != nil || !done.Unchanged || len(asked) != 1 {
		t.Errorf("again: %+v, %v, asked for %v", done, err, asked)
	}
	p.source.Advance(time.Hour)
	p.source.Withdraw("g2", "203.0.113.9")
	p.publish()
	asked = nil
	if done, err = c.Copy(t.Context()); err != nil || done.Fetched >= first.Head.Files {
		t.Errorf("after a change: %+v, %v, asked for %v", done, err, asked)
	}
	if b, err := os.ReadFile(filepath.Join(c.Directory, mirror.Current, "hosts4.txt")); err != nil || string(b) != "198.51.100.7\n" {
		t.Errorf("the copy has %q, %v", b, err)
	}
	// A source that lies leaves the copy as it is.
	lie := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hosts4.txt" {
			fmt.Fprintln(w, "192.0.2.1")
			return
		}
		p.tree.Handler().ServeHTTP(w, r)
	}))
	defer lie.Close()
	p.source.Advance(time.Hour)
	p.source.List("g2", nil, 60, "203.0.113.10")
	p.publish()
	c.URL = lie.URL
	if _, err := c.Copy(t.Context()); !errors.Is(err, mirror.ErrAltered) {
		t.Errorf("a lying source: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(c.Directory, mirror.Current, "hosts4.txt")); err != nil || string(b) != "198.51.100.7\n" {
		t.Errorf("after the lie the copy has %q, %v", b, err)
	}
}

// TestCopyWhilePublishing copies in a loop while publications replace each
// other: each copy is whole.
func TestCopyWhilePublishing(t *testing.T) {
	p := newPublisher(t)
	p.publish()
	s := httptest.NewServer(p.tree.Handler())
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		defer stop()
		for i := range 30 {
			p.source.Advance(time.Second)
			p.source.List("g3", nil, 60, fmt.Sprintf("203.0.113.%d", 100+i))
			p.publish()
		}
	})
	c := p.copier(s.URL, t.TempDir())
	copies := 0
	for ctx.Err() == nil {
		if _, err := c.Copy(t.Context()); err != nil {
			if !errors.Is(err, mirror.ErrAltered) { // four publications within one copy
				t.Fatal(err)
			}
			continue
		}
		copies++
		if _, err := mirror.Verify(filepath.Join(c.Directory, mirror.Current), p.key.Public(), p.source.Now(), nil); err != nil {
			t.Fatalf("copy %d: %v", copies, err)
		}
	}
	running.Wait()
	if done, err := c.Copy(t.Context()); err != nil || done.Manifest.Head.Number != 31 {
		t.Errorf("at the end: %+v, %v", done, err)
	}
}

func TestConditionalRequests(t *testing.T) {
	p := newPublisher(t)
	p.publish()
	s := httptest.NewServer(p.tree.Handler())
	defer s.Close()
	get := func(path string, header ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Body.Close() })
		return a
	}
	first := get("/hosts4.txt")
	etag, modified := first.Header.Get("ETag"), first.Header.Get("Last-Modified")
	if a := get("/hosts4.txt", "If-None-Match", etag); a.StatusCode != http.StatusNotModified {
		t.Errorf("If-None-Match gave %s", a.Status)
	}
	if a := get("/hosts4.txt", "If-Modified-Since", modified); a.StatusCode != http.StatusNotModified {
		t.Errorf("If-Modified-Since gave %s", a.Status)
	}
	p.source.Advance(time.Hour)
	p.source.Withdraw("g2", "203.0.113.9")
	p.publish()
	if a := get("/hosts4.txt", "If-None-Match", etag); a.StatusCode != http.StatusOK {
		t.Errorf("after a change If-None-Match gave %s", a.Status)
	}
	for path, want := range map[string]int{"/../../etc/passwd": 404, "/": 404, "/delta": 404, "/manifest.json": 200, "/manifest.sig": 200} {
		if a := get(path); a.StatusCode != want {
			t.Errorf("%s gave %s, want %d", path, a.Status, want)
		}
	}
}

// TestServedByNginx hands the tree on with Debian's nginx, fetches it with curl
// and rsync, and verifies what they brought.
func TestServedByNginx(t *testing.T) {
	nginx, curl, rsync := testkit.Tool(t, "nginx"), testkit.Tool(t, "curl"), testkit.Tool(t, "rsync")
	p := newPublisher(t)
	p.publish()
	work := t.TempDir()
	socket := filepath.Join(work, "s")
	conf := filepath.Join(work, "nginx.conf")
	text := fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; error_log stderr; events {}\nhttp { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/c;\nserver { listen unix:%[2]s; root %[3]s; } }\n", work, socket, p.current())
	if os.Geteuid() == 0 {
		text = "user root;\n" + text
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, nginx, "-c", conf)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stop(); _ = cmd.Wait() }()
	fetch := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(curl, append([]string{"-sS", "--retry", "20", "--retry-delay", "1", "--retry-all-errors", "--unix-socket", socket}, args...)...)
		var complaints strings.Builder // attempts before the server listens
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("curl %v: %v: %s", args, err, &complaints)
		}
		return string(out)
	}
	if got := fetch("http://mirror/hosts4.txt"); got != p.read("hosts4.txt") {
		t.Errorf("curl brought %q", got)
	}
	etag := filepath.Join(work, "etag")
	fetch("--etag-save", etag, "-o", "/dev/null", "http://mirror/hosts4.txt")
	if got := fetch("--etag-compare", etag, "-o", "/dev/null", "-w", "%{http_code}", "http://mirror/hosts4.txt"); got != "304" {
		t.Errorf("an unchanged file gave %s, want 304", got)
	}
	if code := fetch("-z", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), "-o", "/dev/null", "-w", "%{http_code}", "http://mirror/entries.jsonl"); code != "304" {
		t.Errorf("If-Modified-Since gave %s, want 304", code)
	}
	// A subscriber copies from nginx, too.
	c := p.copier("http://mirror", t.TempDir())
	c.Client = unixClient(socket)
	if _, err := c.Copy(t.Context()); err != nil {
		t.Errorf("copy from nginx: %v", err)
	}
	to := t.TempDir()
	if out, err := exec.Command(rsync, "-a", "--delete", p.current()+"/", to).CombinedOutput(); err != nil {
		t.Fatalf("rsync: %v: %s", err, out)
	}
	if _, err := mirror.Verify(to, p.key.Public(), p.source.Now(), nil); err != nil {
		t.Errorf("what rsync brought: %v", err)
	}
}

func TestDamagedTreeGoesOn(t *testing.T) {
	p := newPublisher(t)
	p.publish()
	p.publish()
	if err := os.WriteFile(filepath.Join(p.current(), "hosts4.txt"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.open()
	if m := p.publish(); m.Head.Number != 3 {
		t.Errorf("after damage the number is %d, want 3", m.Head.Number)
	}
	if _, err := mirror.Verify(p.current(), p.key.Public(), p.source.Now(), nil); err != nil {
		t.Error(err)
	}
}

// BenchmarkPublish writes 300,000 entries in 300 groups; "none" is the same
// with an unchanged list.
func BenchmarkPublish(b *testing.B) {
	p := newPublisher(b)
	p.source.Fill(300_000)
	b.ResetTimer()
	for b.Loop() {
		m := p.publish()
		b.SetBytes(m.Head.Bytes)
	}
}

// BenchmarkVerify checks a copy of 300,000 entries; sha256sum reads the same
// files for comparison.
func BenchmarkVerify(b *testing.B) {
	p := newPublisher(b)
	p.source.Fill(300_000)
	m := p.publish()
	b.Run("verify", func(b *testing.B) {
		b.SetBytes(m.Head.Bytes)
		for b.Loop() {
			if _, err := mirror.Verify(p.current(), p.key.Public(), p.source.Now(), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sha256sum", func(b *testing.B) {
		b.SetBytes(m.Head.Bytes)
		for b.Loop() {
			if out, err := exec.Command("sh", "-c", "find "+p.current()+"/ -type f -print0 | xargs -0 sha256sum >/dev/null").CombinedOutput(); err != nil {
				b.Fatal(err, string(out))
			}
		}
	})
}

// unixClient reaches a server on a socket file.
func unixClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (c net.Conn, err error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
}
