package coresidence

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dragnet/flow"
)

// surf are ordinary downloads of a few kinds; odd ones are one-way floods from
// machine 0.
func surf(rng *rand.Rand, n int) (flows []flow.Flow) {
	for i := range n {
		kind := rng.IntN(3)
		f := transfer(netip.AddrFrom4([4]byte{9, 9, 9, byte(rng.IntN(20))}), address(2+i%6), float64(i)*1.5, 0.1+0.2*float64(kind)*(1+rng.Float64()))
		f.Known |= flow.Lasting | flow.Counts
		f.RespPort, f.OrigPkts, f.RespPkts = 80, uint64(5+10*kind+rng.IntN(4)), uint64(10+30*kind+rng.IntN(8))
		f.OrigIPBytes, f.RespIPBytes = 60*f.OrigPkts, 1400*f.RespPkts
		flows = append(flows, f)
	}
	return flows
}

func floods(n int) (flows []flow.Flow) {
	for i := range n {
		f := transfer(address(1), address(250), 3+float64(i)*7, 2)
		f.Known |= flow.Lasting | flow.Counts
		f.Proto, f.RespPort, f.OrigPkts, f.OrigIPBytes, f.RespPkts = flow.UDP, 9, 5000, 7_000_000, 0
		flows = append(flows, f)
	}
	return flows
}

func trained(t testing.TB, method Method) *TrafficModel {
	t.Helper()
	m, err := Train(surf(rand.New(rand.NewPCG(1, 9)), 1500), method, DefaultFlowOptions(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestModelFindsFloodsAndComesBack(t *testing.T) {
	for _, method := range []Method{KMeans, SingleLinkage, DBSCAN} {
		m := trained(t, method)
		var file bytes.Buffer
		if err := m.Write(&file); err != nil {
			t.Fatal(err)
		}
		again, err := ReadModel(&file)
		if err != nil {
			t.Fatal(err)
		}
		quiet := surf(rand.New(rand.NewPCG(2, 9)), 900)
		for name, flows := range map[string][]flow.Flow{"quiet": quiet, "flooded": append(quiet, floods(40)...)} {
			odd, back := m.JudgeFlows(flows, machines(8), 0.01), again.JudgeFlows(flows, machines(8), 0.01)
			sessions, judged, err := m.JudgeSessions(flows, machines(8), 0.05)
			sessionsBack, _, errBack := again.JudgeSessions(flows, machines(8), 0.05)
			if err != nil || errBack != nil || !reflect.DeepEqual(odd, back) || !reflect.DeepEqual(sessions, sessionsBack) {
				t.Errorf("%s, %s: the model that was read again says otherwise: %v, %v", method, name, err, errBack)
			}
			if judged == 0 {
				t.Errorf("%s, %s: no session was judged", method, name)
			}
			accused := len(odd) == 1 && odd[0].VM.Address == address(1) && odd[0].Outside == 40
			if flooded := name == "flooded"; flooded != accused || !flooded && len(odd) > 0 {
				t.Errorf("%s, %s: odd machines %+v", method, name, odd)
			}
		}
	}
}

func TestOddSessionsAreFound(t *testing.T) {
	m := trained(t, KMeans)
	flows := surf(rand.New(rand.NewPCG(3, 9)), 600)
	files := flows[0]
	files.Orig, files.Resp = netip.MustParseAddr("9.9.9.200"), address(8)
	for i := range 25 * 40 { // in each of 25 sessions forty files of a client
		files.Start = second(2000 + float64(i/40)*20 + 0.1*float64(i%40))
		flows = append(flows, files)
	}
	odd, judged, err := m.JudgeSessions(flows, machines(8), 0.05)
	if err != nil || judged == 0 || len(odd) == 0 {
		t.Fatalf("of %d sessions odd are %+v, %v", judged, odd, err)
	}
	for _, x := range odd {
		if x.VM.Address != address(8) || x.Outside < 25 {
			t.Errorf("accused is %+v", x)
		}
	}
}

// The limit comes from few held-out scores: the p-values hold all the same.
func TestTailOfACalibratedLimit(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	const held, n, runs = 60, 80, 4000
	counts := newTally("", held, nil)
	below := map[float64]int{}
	for range runs {
		scores := make([]float64, held)
		for i := range scores {
			scores[i] = rng.Float64()
		}
		slices.Sort(scores)
		k := 0
		for range n {
			if rankOf(scores, rng.Float64()) <= outside {
				k++
			}
		}
		for _, level := range []float64{0.2, 0.05, 0.01} {
			if counts.tailProbability(k, n) <= level {
				below[level]++
			}
		}
	}
	for level, k := range below {
		if share := float64(k) / runs; share > level*1.3 {
			t.Errorf("a p-value of %v or less came in %v of runs", level, share)
		}
	}
	if below[0.2] < runs/20 {
		t.Errorf("small p-values hardly come: %v", below)
	}
}

func TestTooLittleToTrain(t *testing.T) {
	if _, err := Train(surf(rand.New(rand.NewPCG(1, 1)), 50), KMeans, DefaultFlowOptions(), time.Second); err == nil {
		t.Error("fifty flows make a model")
	}
	if _, err := Train(surf(rand.New(rand.NewPCG(1, 1)), 500), KMeans, DefaultFlowOptions(), 0); err == nil {
		t.Error("sessions without length make a model")
	}
}

// FuzzReadModel changes parts of a model's file: it is refused, or judges without
// a panic.
func FuzzReadModel(f *testing.F) {
	var file bytes.Buffer
	if err := trained(f, KMeans).Write(&file); err != nil {
		f.Fatal(err)
	}
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(file.Bytes(), &parts); err != nil {
		f.Fatal(err)
	}
	for part := range parts {
		f.Add(part, "null")
		f.Add(part, "[[1]]")
		f.Add(part, "[-1]")
		f.Add(part, "7")
	}
	flows := floods(3)
	f.Fuzz(func(t *testing.T, part, value string) {
		changed := map[string]json.RawMessage{}
		for k, v := range parts {
			changed[k] = v
		}
		if !json.Valid([]byte(value)) {
			return
		}
		changed[part] = json.RawMessage(value)
		text, err := json.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ReadModel(bytes.NewReader(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "model: ") {
				t.Errorf("the error does not say where: %v", err)
			}
			return
		}
		m.JudgeFlows(flows, machines(3), 0.01)
		_, _, _ = m.JudgeSessions(flows, machines(3), 0.01)
	})
}
