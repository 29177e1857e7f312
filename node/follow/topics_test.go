package follow

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"dragnet/flow"
	"dragnet/flow/protobuf"
	"dragnet/internal/admin"
	"dragnet/internal/run"
	"dragnet/internal/testkit"
	"dragnet/node/ingest"
	"dragnet/source/kafka"
	"dragnet/store"
)

// childVariable makes this test binary the node that is killed; it names the data
// directory.
const childVariable = "DRAGNET_TOPIC_TEST"

func TestMain(m *testing.M) {
	dir := os.Getenv(childVariable)
	if dir == "" {
		os.Exit(m.Run())
	}
	f, err := readingTopics(dir, strings.Split(os.Args[1], ","))
	if err == nil {
		err = f.Start(context.Background())
	}
	if err == nil {
		err = <-f.Failed()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

const sourceTopic, sinkTopic = "goflow2", "dragnet"

// readingTopics is a node that reads one topic and forwards to another.
func readingTopics(dir string, brokers []string) (*Follower, error) {
	c, d := DefaultConfiguration(), Dependencies{Store: store.DefaultConfiguration(), Log: quiet()}
	c.Every, d.Store.Directory, d.Sources = 100*time.Millisecond, dir, filepath.Join(dir, "sources.json")
	k := kafka.DefaultConfiguration()
	k.Brokers, k.Topics, k.Forward.Topic = brokers, []kafka.Topic{{Name: sourceTopic, Format: "goflow2"}}, sinkTopic
	k.Join.Linger = 100 * time.Millisecond
	var err error
	if d.Consumer, err = kafka.New(k, kafka.Dependencies{File: filepath.Join(dir, "kafka"), Log: quiet()}); err != nil {
		return nil, err
	}
	if d.Forwarder, err = kafka.NewForwarder(k, kafka.Dependencies{Log: quiet()}); err != nil {
		return nil, err
	}
	if d.Admin, err = admin.New(admin.Configuration{Listen: "127.0.0.1:0"}, "test", "test", quiet()); err != nil {
		return nil, err
	}
	return New(c, d)
}

// cluster is a broker with both topics, of the given number of partitions, and a client.
func cluster(t *testing.T, partitions int32) (brokers []string, client *kgo.Client) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, sourceTopic, sinkTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	client, err = kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return c.ListenAddrs(), client
}

// side is one direction of conversation n, as goflow2 writes it.
func side(n int, at time.Time, answer bool) []byte {
	m := &flowpb.FlowMessage{
		Type: flowpb.FlowMessage_IPFIX, TimeReceivedNs: uint64(at.UnixNano()), TimeFlowStartNs: uint64(at.UnixNano()), TimeFlowEndNs: uint64(at.UnixNano()) + 1e6,
		SrcAddr: binary.BigEndian.AppendUint32(nil, 0x0a000000+uint32(n)), DstAddr: []byte{192, 0, 2, 1}, SrcPort: 40000, DstPort: 443, Proto: 6, TcpFlags: 0x13,
		SamplerAddress: []byte{198, 51, 100, 1}, Packets: 5, Bytes: 400, SamplingRate: 1,
	}
	if answer {
		m.SrcAddr, m.DstAddr, m.SrcPort, m.DstPort, m.Packets = m.DstAddr, m.SrcAddr, m.DstPort, m.SrcPort, 4
	}
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func produce(t *testing.T, client *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// conversations counts the stored flows of each conversation, and fails for one
// whose directions did not become one flow.
func conversations(t *testing.T, dir string) map[int]int {
	t.Helper()
	r, err := ingest.OpenReader(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	count := map[int]int{}
	var mu sync.Mutex
	if _, err := r.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
		mu.Lock()
		defer mu.Unlock()
		for _, f := range batch {
			a := f.Orig.As4()
			count[int(binary.BigEndian.Uint32(a[:])-0x0a000000)]++
			if f.OrigPkts != 5 || f.RespPkts != 4 || f.RespPort != 443 {
				t.Errorf("%+v", f)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return count
}

// TestTopicsWhenKilled kills a node again and again while it reads a topic: each
// conversation is stored once, whole, though its directions are in different
// partitions and many messages were read when it was killed; and is forwarded at
// least once, again under the same key.
func TestTopicsWhenKilled(t *testing.T) {
	const partitions = 3
	brokers, client := cluster(t, partitions)
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	kills := 40
	if testkit.Short(t) {
		kills = 8
	}
	n := 0
	for range kills {
		child := exec.Command(exe, strings.Join(brokers, ","))
		child.Env = append(os.Environ(), childVariable+"="+dir)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			var records []*kgo.Record
			for range 200 {
				for _, answer := range []bool{false, true} {
					records = append(records, &kgo.Record{Topic: sourceTopic, Partition: rng.Int32N(partitions), Value: side(n, time.Now(), answer)})
				}
				n++
			}
			produce(t, client, records...)
			time.Sleep(time.Duration(rng.IntN(120)) * time.Millisecond)
		}
		_ = child.Process.Kill()
		_ = child.Wait()
	}
	f, err := readingTopics(dir, brokers)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all flows are made", func() bool {
		s := f.deps.Consumer.Sources()[0]
		return s.Flows >= uint64(n) && s.Messages >= uint64(2*n)
	})
	s := f.deps.Consumer.Sources()[0]
	if err := f.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	count := conversations(t, dir)
	for i := range n {
		if count[i] != 1 {
			t.Errorf("conversation %d is stored %d times", i, count[i])
		}
	}
	if s.Messages != uint64(2*n) || s.Flows != uint64(n) || s.Malformed+s.Missing > 0 || len(count) != n {
		t.Errorf("%+v, %d conversations of %d", s, len(count), n)
	}
	forwarded(t, brokers, n)
	offsets, err := kadm.NewClient(client).FetchOffsets(t.Context(), "dragnet")
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) { sum += o.At })
	if sum != int64(2*n) {
		t.Errorf("offsets committed add up to %d, want %d", sum, 2*n)
	}
}

func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 600 {
		if f() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("still not: %s", what)
}

// forwarded checks that each of n conversations is in the topic.
func forwarded(t *testing.T, brokers []string, n int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(sinkTopic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	keys, seen, messages := map[string]int{}, map[netip.Addr]bool{}, 0
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(seen) < n && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			var f flow.Flow
			if err := protobuf.Parse(r.Value, &f); err != nil {
				t.Fatal(err)
			}
			messages++
			keys[string(r.Key)]++
			seen[f.Orig] = true
		})
	}
	if len(seen) != n || len(keys) != n {
		t.Errorf("%d conversations of %d are forwarded, under %d keys", len(seen), n, len(keys))
	}
	t.Logf("%d messages for %d flows", messages, n)
}

// TestKcat has another client write and read topics, and another node read what
// the first forwards.
func TestKcat(t *testing.T) {
	kcat := testkit.Tool(t, "kcat")
	brokers, _ := cluster(t, 1)
	dir, files := t.TempDir(), t.TempDir()
	args := []string{"-P", "-b", brokers[0], "-t", sourceTopic, "-p", "0"}
	for n := range 20 {
		for _, answer := range []bool{false, true} {
			name := filepath.Join(files, fmt.Sprintf("%d-%v", n, answer))
			if err := os.WriteFile(name, side(n, time.Now(), answer), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, name)
		}
	}
	bad := filepath.Join(files, "bad")
	if err := os.WriteFile(bad, []byte("this is not a flow"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(kcat, append(args, bad)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := readingTopics(dir, brokers)
	if err != nil {
		t.Fatal(err)
	}
	if err := (run.Parts{f}).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the flows are forwarded", func() bool { return f.deps.Forwarder.Forwarded() == 20 })
	sources := f.topicSources()
	if err := f.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(sources) != 2 || sources[0].Name != sourceTopic || sources[0].Flows != 20 || sources[0].Lost["messages_malformed"] != 1 || sources[1].Flows != 20 || len(sources[1].Lost) > 0 {
		t.Errorf("%+v", sources)
	}
	out, err := exec.Command(kcat, "-C", "-e", "-q", "-b", brokers[0], "-t", sinkTopic, "-f", "%o %S %K\n").Output()
	if err != nil || len(strings.Split(strings.TrimSpace(string(out)), "\n")) != 20 {
		t.Errorf("kcat reads %v\n%s", err, out)
	}
}
