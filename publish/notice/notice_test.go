package notice_test

import (
	"encoding/csv"
	"io"
	"mime/quotedprintable"
	"net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dragnet/publish/notice"
	"dragnet/publish/publishtest"
)

func TestEachOwnerGetsItsOwnRows(t *testing.T) {
	dir := t.TempDir()
	as := filepath.Join(dir, "as.txt")
	if err := os.WriteFile(as, []byte("# prefixes\n203.0.113.0/24 AS64500\n192.0.2.0/24,64501\n2001:db8::/32 64500\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := notice.Configuration{Directory: filepath.Join(dir, "out"), From: "Clearing <clearing@example.org>", ASFile: as, Owners: []notice.Owner{
		{Name: "one", Mail: "abuse@one.example", Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/25"), netip.MustParsePrefix("198.51.100.0/24")}},
		{Name: "two", Mail: "abuse@two.example", AS: []uint32{64500}},
		{Name: "none", Mail: "abuse@none.example", AS: []uint32{64501}},
	}}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	w, err := notice.New(c, "https://example.org/objections")
	if err != nil {
		t.Fatal(err)
	}
	s := publishtest.New()
	s.List("g1", []string{"in dport=445"}, 75, "198.51.100.7", "198.51.100.200", "203.0.113.9", "2001:db8::7", "192.0.3.1")
	feed := s.Feed(t)
	if err := w.Write(feed.View()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"one": "198.51.100.7 198.51.100.200", "two": "203.0.113.9 2001:db8::7", "none": ""} {
		f, err := os.Open(filepath.Join(c.Directory, name+".csv"))
		if want == "" {
			if err == nil {
				t.Errorf("%s got a file", name)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(f).ReadAll()
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		var hosts []string
		for _, r := range rows[1:] {
			hosts = append(hosts, r[0])
		}
		if got := strings.Join(hosts, " "); got != want {
			t.Errorf("%s got %s, want %s", name, got, want)
		}
	}
	f, err := os.Open(filepath.Join(c.Directory, "one.eml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := mail.ReadMessage(f)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil || m.Header.Get("Subject") != "2 of your hosts took part in attacks" || m.Header.Get("To") != "abuse@one.example" {
		t.Errorf("%v, %v", m.Header, err)
	}
	if text := string(body); !strings.Contains(text, "https://example.org/objections") || !strings.Contains(text, "198.51.100.7,") || strings.Contains(text, "203.0.113.9") {
		t.Error(text)
	}
	s.Withdraw("g1", "198.51.100.7", "198.51.100.200")
	if err := w.Write(publishtest.Refresh(t, feed)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(c.Directory, "one.eml")); err == nil {
		t.Error("a notice without rows stays")
	}
}

func TestBadConfiguration(t *testing.T) {
	for _, c := range []notice.Configuration{
		{Directory: "x", From: "nobody"}, {Directory: "x", From: "a@b", Owners: []notice.Owner{{Name: "../x", Mail: "a@b", AS: []uint32{1}}}},
	} {
		if c.Validate() == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	dir := t.TempDir()
	as := filepath.Join(dir, "as")
	if err := os.WriteFile(as, []byte("203.0.113.0/24\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := notice.New(notice.Configuration{Directory: dir, ASFile: as, Owners: []notice.Owner{{Name: "x", AS: []uint32{1}}}}, ""); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("%v", err)
	}
}
