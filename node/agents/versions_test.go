package agents

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/node/api"
	agentv1 "dragnet/wire/agent/v1"
	"dragnet/wire/enrol"
)

// newer is a proxy between an agent and its node that makes each look newer to the
// other: to every message it adds an unknown field.
func newer(next http.Handler) http.Handler {
	field := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "from the future")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(append(body, field...)))
		r.ContentLength = -1
		r.Header.Del("Accept-Encoding")
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		if answer.Code == http.StatusOK {
			answer.Body.Write(field)
		}
		for k, v := range answer.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
	})
}

func TestEitherSideMayBeNewer(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	service := n.Service()
	service.Handler = newer(service.Handler)
	c := api.DefaultConfiguration()
	c.Socket, c.Listen = api.NoSocket, "127.0.0.1:0"
	s, err := api.New(c, api.Dependencies{Log: quiet(), TLS: n.ServerTLS(nil), Member: n.FindMember, Services: []api.Service{service}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := n.server
	n.server = s
	defer func() { n.server = old; s.Stop(t.Context()) }()
	a := startAgent(t, enrolled(t, n, "edge-1"))
	defer stop(t, a)
	a.send(t, 0, 10)
	if _, err := n.Configure(t.Context(), "guard", "", 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	isTold(t, a, "one")
	within(t, "items", func() bool { return len(n.kept(t)) == 10 && a.Status().Waiting == 0 })
}

var record = flag.Bool("record", false, "write testdata/agent-*, what an agent of this build says; only for a new build beside the old ones")

// said is what an agent says in a session, in order: procedure and message.
func said() []struct {
	name    string
	message proto.Message
} {
	spool := []byte("0123456789abcdef")
	item := func(n uint64) *agentv1.Item {
		return &agentv1.Item{Sequence: n, Kind: "test.number", Format: 1, Time: timestamppb.New(time.Unix(1700000000, 0)), Body: fmt.Append(nil, n)}
	}
	return []struct {
		name    string
		message proto.Message
	}{
		{"1-GetConfiguration", &agentv1.GetConfigurationRequest{Release: "0.1.0", WaitingBytes: 100, Dropped: 1}},
		{"2-GetConfiguration", &agentv1.GetConfigurationRequest{Have: "x", Refused: "y", Problem: "z", Release: "0.1.0"}},
		{"3-SendItems", &agentv1.SendItemsRequest{Spool: spool, Items: []*agentv1.Item{item(1), item(2)}}},
		{"4-SendItems", &agentv1.SendItemsRequest{Spool: spool, Items: []*agentv1.Item{item(2), item(3), item(5)}}},
	}
}

// TestAgentsOfEarlierBuilds replays what agents of earlier builds said, byte by
// byte as they were recorded, one folder a build.
func TestAgentsOfEarlierBuilds(t *testing.T) {
	if *record {
		dir := filepath.Join("testdata", "agent-0.1.0")
		for _, s := range said() {
			b, err := proto.Marshal(s.message)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, s.name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	builds, err := filepath.Glob("testdata/agent-*")
	if err != nil || len(builds) == 0 {
		t.Fatal(builds, err)
	}
	for _, build := range builds {
		t.Run(filepath.Base(build), func(t *testing.T) {
			n := startNode(t, t.TempDir(), "127.0.0.1:0")
			f, err := enrol.Open(enrolled(t, n, "edge-1"))
			if err != nil {
				t.Fatal(err)
			}
			client := http.Client{Transport: &http.Transport{TLSClientConfig: f.ClientTLS(), ForceAttemptHTTP2: true}}
			defer client.CloseIdleConnections()
			files, err := filepath.Glob(filepath.Join(build, "*"))
			if err != nil || len(files) < 4 {
				t.Fatal(files, err)
			}
			for _, file := range files {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				_, method, _ := strings.Cut(filepath.Base(file), "-")
				r, err := client.Post(n.url()+"/dragnet.agent.v1.AgentService/"+method, "application/proto", bytes.NewReader(b))
				if err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err != nil || r.StatusCode != http.StatusOK {
					t.Fatalf("%s: %s: %s, %v", file, r.Status, answer, err)
				}
			}
			if m := n.member(t, "edge-1"); fmt.Sprint(n.kept(t)) != "[1 2 3 5]" || m.Missed != 1 || m.Problem != "y: z" || m.Program != "0.1.0" {
				t.Errorf("kept %v, %+v", n.kept(t), m)
			}
		})
	}
}

// FuzzRequest sends bytes to each procedure as an enrolled agent. Whatever they
// are, the node answers, and items are kept once.
func FuzzRequest(f *testing.F) {
	n, err := newNode(f.TempDir(), "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(n.close)
	services := []api.Service{n.Service(), n.Operators().Service()}
	methods := []string{"EnrolAgent", "RenewCertificate", "GetConfiguration", "SendItems", "ListMembers", "MakeToken", "RevokeMember", "ConfigureRole"}
	for _, s := range said() {
		b, err := proto.Marshal(s.message)
		if err != nil {
			f.Fatal(err)
		}
		for i := range methods {
			f.Add(i, b)
		}
	}
	f.Fuzz(func(t *testing.T, method int, body []byte) {
		i := uint(method) % uint(len(methods))
		name, service := methods[i], services[i/4]
		var m agentv1.GetConfigurationRequest
		if name == "GetConfiguration" && proto.Unmarshal(body, &m) == nil && m.Wait.AsDuration() > 0 {
			t.Skip("asks the node to wait")
		}
		r := httptest.NewRequest(http.MethodPost, service.Path+name, bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/proto")
		w := httptest.NewRecorder()
		service.Handler.ServeHTTP(w, r.WithContext(api.WithPeer(r.Context(), api.Peer{Name: "edge-1", Role: "guard"})))
		if w.Code >= 500 {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
	})
}
