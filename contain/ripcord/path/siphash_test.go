package path

import "testing"

// TestSipHash compares with the authors' reference vectors (vectors_sip64: key
// 00..0f, input 00..07) where the input is whole words; the kernel's hash is
// compared with this one in contain/ripcord/bpf.
func TestSipHash(t *testing.T) {
	key := [2]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	if got := siphash(key, nil); got != 0x726fdb47dd0e0e31 {
		t.Errorf("of nothing: %#x", got)
	}
	if got := siphash(key, []uint64{0x0706050403020100}); got != 0x93f5f5799a932462 {
		t.Errorf("of 8 octets: %#x", got)
	}
}
