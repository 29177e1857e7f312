package agents

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "dragnet/wire/agent/v1"
	"dragnet/wire/channel"
	"dragnet/wire/enrol"
)

// FuzzAnswer has an enrolled agent talk to a node that answers every call with
// the same bytes. Whatever they are, the agent continues, and keeps what it has to
// send unless the node said that it has it.
func FuzzAnswer(f *testing.F) {
	dir := f.TempDir()
	authority, err := enrol.OpenAuthority(filepath.Join(dir, "authority"))
	if err != nil {
		f.Fatal(err)
	}
	var answer []byte
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	asked := make(chan string, 1000)
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/proto")
		_, _ = w.Write(answer)
		select {
		case asked <- filepath.Base(r.URL.Path):
		default:
		}
	})}
	go server.Serve(tls.NewListener(l, authority.ServerTLS(nil)))
	f.Cleanup(func() { server.Close() })
	for _, m := range []proto.Message{
		&agentv1.GetConfigurationResponse{Document: &agentv1.Document{Version: "a", Body: []byte("x")}},
		&agentv1.SendItemsResponse{Acknowledged: 1}, &agentv1.SendItemsResponse{Acknowledged: 1 << 63, Refusals: []*agentv1.Refusal{{Sequence: 1}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	folder := enrolledAt(f, authority, "https://"+l.Addr().String())
	f.Fuzz(func(t *testing.T, b []byte) {
		answer = b
		a := stranger(t, folder)
		if err := a.Send(channel.Item{Kind: "test.number", Body: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		for seen := map[string]bool{}; !seen["SendItems"] || !seen["GetConfiguration"]; {
			seen[<-asked] = true
		}
		if err := a.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		for len(asked) > 0 {
			<-asked
		}
		var m agentv1.SendItemsResponse
		if err := proto.Unmarshal(b, &m); (err != nil || m.Acknowledged != 1) && waiting(folder) == 0 {
			t.Errorf("the item was dropped after %+v, %v", &m, err)
		}
	})
}

// waiting counts the files of the spool in a folder.
func waiting(dir string) int {
	files, _ := filepath.Glob(filepath.Join(dir, "spool", "*.spool"))
	return len(files)
}

// enrolledAt is the folder of an agent of a node that it has not seen yet.
func enrolledAt(t testing.TB, authority *enrol.Authority, url string) string {
	t.Helper()
	dir := t.TempDir()
	request, err := enrol.Request(dir)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := authority.Issue(request, "edge-1", "guard", time.Now(), time.Hour*24*90)
	if err != nil {
		t.Fatal(err)
	}
	if err := enrol.Save(dir, enrol.Member{Node: url, Name: "edge-1", Role: "guard"}, certificate.Raw, authority.Certificate()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// stranger starts the agent in a folder, as if it had just enrolled.
func stranger(t *testing.T, dir string) *channel.Client {
	t.Helper()
	for _, left := range []string{"spool", "configuration.pb"} {
		if err := os.RemoveAll(filepath.Join(dir, left)); err != nil {
			t.Fatal(err)
		}
	}
	c := channel.DefaultConfiguration()
	c.State = dir
	client, err := channel.New(c, channel.Dependencies{Log: quiet(), Role: "guard", Apply: func(context.Context, channel.Document) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return client
}
