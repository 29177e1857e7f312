package baseline

import (
	"strings"
	"testing"
)

func bytesOf(texts ...string) (all [][]byte) {
	for _, t := range texts {
		all = append(all, []byte(t))
	}
	return all
}

func TestLongestCommonSubstring(t *testing.T) {
	for want, samples := range map[string][][]byte{
		"common": bytesOf("xxcommonyy", "commonzz", "aacommon"),
		"":       bytesOf("abc", "def"),
		"abc":    bytesOf("abc"),
	} {
		if got := string(LearnSubstring(samples)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSubsequenceKeepsOrder(t *testing.T) {
	s := LearnSubsequence(bytesOf("..head..12..tail..", "head--34--tail", "++head++55++tail"))
	if !s.Match([]byte("head of the tail")) || s.Match([]byte("tail before head")) {
		t.Errorf("tokens %q do not keep their order", s)
	}
}

func TestTokensAreMaximal(t *testing.T) {
	for _, tok := range Tokens(t.Context(), bytesOf("1abcdef2", "3abcdef4"), 1) {
		if s := string(tok); s != "abcdef" && strings.Contains("abcdef", s) {
			t.Errorf("token %q is part of a longer one that is as frequent", s)
		}
	}
}

func TestBayesWeighsTokens(t *testing.T) {
	worms := bytesOf("GET evil99 token77", "PUT evil99 other token77", "GET token77 and evil99")
	clean := bytesOf("GET index", "GET page", "PUT file", "GET other")
	b := LearnBayes(worms, clean, 0)
	if !b.Match([]byte("HEAD evil99 ... token77")) || b.Match([]byte("GET other page")) {
		t.Errorf("tokens %q, weights %v, threshold %v", b.tokens, b.weights, b.threshold)
	}
}

func TestFrequenciesSeeUnusualBytes(t *testing.T) {
	var clean [][]byte
	for i := range 20 {
		clean = append(clean, []byte(strings.Repeat("plain text of letters ", 3+i)))
	}
	f := LearnFrequencies(clean, 0.05)
	if !f.Match([]byte("\x90\x91\x92\x93\x94\x95\x96\x97\x98")) || f.Match([]byte("plain text of letters plain text of letters ")) {
		t.Errorf("threshold %v does not separate", f.threshold)
	}
}
