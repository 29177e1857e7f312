package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"

	"dragnet/flow"
	"dragnet/flow/protobuf"
	"dragnet/internal/testkit"
	"dragnet/source/biflow"
	"dragnet/source/netflow"
	"dragnet/source/sourcetest"
)

// broker is a cluster of one broker, and a client of it.
func broker(t *testing.T, options ...kfake.Opt) (brokers []string, client *kgo.Client) {
	t.Helper()
	c, err := kfake.NewCluster(append(options, kfake.NumBrokers(1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if client, err = kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return c.ListenAddrs(), client
}

func settings(brokers []string, topics ...Topic) Configuration {
	c := DefaultConfiguration()
	c.Brokers, c.Topics = brokers, topics
	c.Join.MaxSkew, c.Join.Wait = 0, 500*time.Millisecond
	return c
}

// consumer starts one that goes on from number.
func consumer(t *testing.T, c Configuration, file string, number int64) *Consumer {
	t.Helper()
	k, err := New(c, Dependencies{File: file, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Start(t.Context(), func(string) int64 { return number }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Stop(context.Background()) })
	return k
}

// drain takes until done, and returns the flows and the last number.
func drain(t *testing.T, k *Consumer, done func() bool) (flows []flow.Flow, number int64) {
	t.Helper()
	for range 300 {
		if _, err := k.Take(t.Context(), func(batch []flow.Flow) error { flows = append(flows, batch...); return nil }); err != nil {
			t.Fatal(err)
		}
		n, changed, err := k.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		if number = n; changed {
			k.Commit(t.Context(), n)
		}
		if done() {
			return flows, number
		}
	}
	t.Fatalf("still not: %+v, %d errors", k.Sources(), k.Errors())
	return nil, 0
}

func send(t *testing.T, client *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// raw is a datagram as Akvorado's inlet writes it.
func raw(datagram []byte) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(time.Now().Unix()))
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), datagram)
	b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), []byte{192, 0, 2, 7})
	return protowire.AppendVarint(protowire.AppendTag(b, 5, protowire.VarintType), 1)
}

// TestAkvorado: datagrams that come through a topic give the flows that they give
// over UDP, with a restart after each few: templates, sequence numbers and
// conversations go on.
func TestAkvorado(t *testing.T) {
	all := sourcetest.Datagrams(t, testkit.Data(t, "exports", "softflowd_xscan_v9.pcap"), netflow.Is)
	want := map[flow.Flow]int{}
	d := netflow.New(netflow.DefaultConfiguration())
	at := flow.FromTime(time.Now())
	brokers, client := broker(t, kfake.SeedTopics(1, "raw"))
	c := settings(brokers, Topic{Name: "raw", Format: "akvorado"})
	// No conversation may be over for lack of a record while the test runs.
	c.Join.Wait, c.Join.Linger = time.Hour, time.Hour
	join := biflow.New(c.Join, func(f *flow.Flow) { want[*f]++ })
	file, number := filepath.Join(t.TempDir(), "kafka"), int64(0)
	var got []flow.Flow
	var last *Consumer
	for i, g := range all {
		if i == 3 {
			continue // it is lost on the way to Akvorado
		}
		send(t, client, &kgo.Record{Topic: "raw", Value: raw(g.Data)})
		if err := d.Decode(at, netip.MustParseAddr("192.0.2.7"), g.Data, func(r *biflow.Record) { join.Add(at, r) }); err != nil {
			t.Fatal(err)
		}
		if i%10 == 9 || i == len(all)-1 {
			last = consumer(t, c, file, number)
			messages := uint64(i) // without the one that is lost
			flows, n := drain(t, last, func() bool { return last.Sources()[0].Messages == messages })
			got, number = append(got, flows...), n
		}
	}
	join.Flush()
	last.feeds[0].join.Flush()
	got = append(got, last.pending...)
	for _, f := range got {
		want[f]--
	}
	for f, n := range want {
		if n != 0 {
			t.Errorf("%+d times over UDP: %+v", n, f)
		}
	}
	if s := last.Sources()[0]; s.NetFlow.Lost != 1 || s.NetFlow.UnknownTemplate > 0 || s.Malformed > 0 || len(got) < 100 {
		t.Errorf("%+v, %d flows", s, len(got))
	}
}

// own are n flows in our own form, each in its own second.
func own(first, n int, at time.Time) (records []*kgo.Record) {
	for i := range n {
		f := flow.Flow{Start: flow.FromTime(at), Orig: netip.AddrFrom4([4]byte{10, 0, byte((first + i) >> 8), byte(first + i)}), Resp: netip.MustParseAddr("192.0.2.1"), Proto: flow.UDP, Known: flow.Counts, OrigPkts: 1}
		records = append(records, &kgo.Record{Topic: "own", Value: protobuf.Append(nil, &f)})
	}
	return records
}

// TestWhatTheClusterRemoved is counted, and reading goes on behind it; a topic made
// again is read from its beginning.
func TestWhatTheClusterRemoved(t *testing.T) {
	brokers, client := broker(t, kfake.SeedTopics(1, "own"))
	admin := kadm.NewClient(client)
	c, file := settings(brokers, Topic{Name: "own", Format: "dragnet"}), filepath.Join(t.TempDir(), "kafka")
	k := consumer(t, c, file, 0)
	send(t, client, own(0, 100, time.Now())...)
	_, number := drain(t, k, func() bool { return k.Sources()[0].Messages == 100 })
	k.Stop(t.Context())
	send(t, client, own(100, 100, time.Now())...)
	var remove kadm.Offsets
	remove.AddOffset("own", 0, 150, -1)
	if _, err := admin.DeleteRecords(t.Context(), remove); err != nil {
		t.Fatal(err)
	}
	k = consumer(t, c, file, number)
	flows, number := drain(t, k, func() bool { return k.Sources()[0].Messages == 150 })
	if s := k.Sources()[0]; len(flows) != 50 || s.Missing != 50 || s.Flows != 150 || s.Lag != 0 {
		t.Errorf("%d flows, %+v", len(flows), s)
	}
	k.Stop(t.Context())
	if _, err := admin.DeleteTopics(t.Context(), "own"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopics(t.Context(), 1, 1, nil, "own"); err != nil {
		t.Fatal(err)
	}
	client.PurgeTopicsFromProducing("own")
	send(t, client, own(200, 30, time.Now())...)
	k = consumer(t, c, file, number)
	flows, _ = drain(t, k, func() bool { return k.Sources()[0].Messages == 180 })
	if s := k.Sources()[0]; len(flows) != 30 || s.Restarts != 1 {
		t.Errorf("%d flows of a topic made again, %+v", len(flows), s)
	}
}

// TestLostFiles: without the state in its files, a consumer goes on at the offsets
// committed.
func TestLostFiles(t *testing.T) {
	brokers, client := broker(t, kfake.SeedTopics(2, "own"))
	c := settings(brokers, Topic{Name: "own", Format: "dragnet"})
	k := consumer(t, c, filepath.Join(t.TempDir(), "kafka"), 0)
	send(t, client, own(0, 100, time.Now())...)
	drain(t, k, func() bool { return k.Sources()[0].Messages == 100 })
	k.Stop(t.Context())
	send(t, client, own(100, 10, time.Now())...)
	k = consumer(t, c, filepath.Join(t.TempDir(), "kafka"), 7)
	if flows, _ := drain(t, k, func() bool { return k.Sources()[0].Messages == 10 }); len(flows) != 10 {
		t.Errorf("%d flows", len(flows))
	}
	c.Group = "another"
	k = consumer(t, c, filepath.Join(t.TempDir(), "kafka"), 0)
	if flows, _ := drain(t, k, func() bool { return k.Sources()[0].Messages == 110 }); len(flows) != 110 {
		t.Errorf("%d flows for a new group", len(flows))
	}
}

// TestTimesThatProducersInvent: messages with the times of other centuries change
// nothing of the others.
func TestTimesThatProducersInvent(t *testing.T) {
	brokers, client := broker(t, kfake.SeedTopics(2, "own"))
	c := settings(brokers, Topic{Name: "own", Format: "dragnet"})
	k := consumer(t, c, filepath.Join(t.TempDir(), "kafka"), 0)
	at := time.Now()
	for i, r := range own(0, 100, at) {
		r.Partition = int32(i % 2)
		switch i % 4 {
		case 0:
			r.Timestamp = time.Unix(1<<33, 0)
		case 1:
			r.Timestamp = time.UnixMilli(1)
		}
		send(t, client, r)
	}
	flows, _ := drain(t, k, func() bool { return k.Sources()[0].Messages == 100 })
	for _, f := range flows {
		if f.Start != flow.FromTime(at) {
			t.Fatalf("%+v", f)
		}
	}
	if clock := k.feeds[0].clock; len(flows) != 100 || clock > flow.FromTime(time.Now()) {
		t.Errorf("%d flows; it is %v", len(flows), clock)
	}
}

// TestEncryptedAndWithPassword reads over TLS with SCRAM; a wrong password, or a
// broker with an untrusted certificate, is an error that says so.
func TestEncryptedAndWithPassword(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	brokers, _ := broker(t, kfake.SeedTopics(1, "own"), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "node", "secret"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}))
	c := settings(brokers, Topic{Name: "own", Format: "dragnet"})
	c.TLS, c.User, c.Password = TLS{Enabled: true, CA: ca}, "node", "secret"
	c.Forward.Topic = "other"
	k := consumer(t, c, filepath.Join(t.TempDir(), "kafka"), 0)
	w, err := NewForwarder(Configuration{
		Brokers: brokers, TLS: c.TLS, User: "node", Password: "secret", Mechanism: c.Mechanism, Group: "x", NetFlow: c.NetFlow, SFlow: c.SFlow, Join: c.Join,
		Forward: Forward{Topic: "own", MaxPending: 5},
	}, Dependencies{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := flow.Flow{Start: 1, Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("192.0.2.2"), Proto: flow.TCP, State: flow.SF}
	w.Add([]flow.Flow{want})
	w.Flush(t.Context())
	flows, _ := drain(t, k, func() bool { return k.Sources()[0].Messages == 1 })
	if len(flows) != 1 || flows[0] != want || w.Forwarded() != 1 {
		t.Errorf("%+v", flows)
	}
	if err := w.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Configuration){
		"wrong password": func(c *Configuration) { c.Password = "guess" },
		"unknown broker": func(c *Configuration) { c.TLS.CA = "" },
	} {
		wrong := c
		change(&wrong)
		var log strings.Builder
		k, err := New(wrong, Dependencies{File: filepath.Join(t.TempDir(), "kafka"), Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Start(t.Context(), func(string) int64 { return 0 }); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Take(t.Context(), func([]flow.Flow) error { return nil }); err != nil || k.Errors() == 0 || !strings.Contains(log.String(), "read topics failed") {
			t.Errorf("%s: %v, %d errors\n%s", name, err, k.Errors(), log.String())
		}
		t.Log(log.String())
		k.Stop(t.Context())
	}
}

// TestForwardingIsBounded: without a cluster, flows beyond max_pending are dropped
// and counted, and no caller waits for long.
func TestForwardingIsBounded(t *testing.T) {
	c := settings([]string{"127.0.0.1:1"})
	c.Forward = Forward{Topic: "own", MaxPending: 10}
	w, err := NewForwarder(c, Dependencies{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Add(make([]flow.Flow, 100))
	for range 1000 { // the client says so later
		if w.Dropped() >= 90 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if w.Dropped() != 90 || w.Waiting() != 10 || w.Forwarded() != 0 {
		t.Errorf("%d dropped, %d wait", w.Dropped(), w.Waiting())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.Stop(ctx); err == nil {
		t.Error("it says that all is forwarded")
	}
}

func TestSettingsThatMakeNoSense(t *testing.T) {
	for want, change := range map[string]func(*Configuration){
		"brokers: ":           func(c *Configuration) { c.Brokers = nil },
		"brokers[0]":          func(c *Configuration) { c.Brokers = []string{"kafka"} },
		"mechanism: is":       func(c *Configuration) { c.Mechanism = "gssapi" },
		"mechanism: plain":    func(c *Configuration) { c.Mechanism, c.User = "plain", "me" },
		"user":                func(c *Configuration) { c.Password = "x" },
		"tls: ":               func(c *Configuration) { c.TLS = TLS{Enabled: true, Key: "k"} },
		"tls.enabled":         func(c *Configuration) { c.TLS.CA = "ca.pem" },
		"group":               func(c *Configuration) { c.Group = "" },
		"topics[0].format":    func(c *Configuration) { c.Topics[0].Format = "json" },
		"named twice":         func(c *Configuration) { c.Topics = append(c.Topics, c.Topics[0]) },
		"go round":            func(c *Configuration) { c.Forward.Topic = "own" },
		"partitions":          func(c *Configuration) { c.Topics[0].Partitions = []int32{-1} },
		"forward.max_pending": func(c *Configuration) { c.Forward.MaxPending = 0 },
		"join.wait":           func(c *Configuration) { c.Join.Wait = 0 },
	} {
		c := settings([]string{"127.0.0.1:9092"}, Topic{Name: "own", Format: "dragnet"})
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// BenchmarkTopic reads messages of our own form from a broker in this process, and
// writes the state that a commit needs.
func BenchmarkTopic(b *testing.B) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "own"))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	const messages = 400_000
	for n := range messages / 1000 {
		if err := client.ProduceSync(b.Context(), own(n*1000, 1000, time.Now())...).FirstErr(); err != nil {
			b.Fatal(err)
		}
	}
	for turn := 0; b.Loop(); turn++ {
		conf := settings(c.ListenAddrs(), Topic{Name: "own", Format: "dragnet"})
		conf.Group = fmt.Sprint("bench", turn)
		k, err := New(conf, Dependencies{File: filepath.Join(b.TempDir(), "kafka"), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		if err := k.Start(b.Context(), func(string) int64 { return 0 }); err != nil {
			b.Fatal(err)
		}
		for flows := 0; flows < messages; {
			if _, err := k.Take(b.Context(), func(batch []flow.Flow) error { flows += len(batch); return nil }); err != nil {
				b.Fatal(err)
			}
			number, _, err := k.Checkpoint()
			if err != nil {
				b.Fatal(err)
			}
			k.Commit(b.Context(), number)
		}
		k.Stop(b.Context())
	}
	b.ReportMetric(float64(b.N)*messages/b.Elapsed().Seconds(), "flows/s")
}
