package match

// Kernel is a way to pass over windows that cannot reach a limit.
type Kernel int

// The kernels, slowest first. Portable has no vector code at all.
const (
	Portable Kernel = iota
	AVX2
	VBMI // AVX-512 with byte permutations
)

// String names k.
func (k Kernel) String() string { return [...]string{"portable", "avx2", "avx512vbmi"}[k] }

// Kernels lists what this machine can run, slowest first.
func Kernels() []Kernel {
	ks := []Kernel{Portable}
	for _, k := range []Kernel{AVX2, VBMI} {
		if supported(k) {
			ks = append(ks, k)
		}
	}
	return ks
}

// Fastest is the kernel chosen where the caller does not say.
func Fastest() Kernel {
	ks := Kernels()
	return ks[len(ks)-1]
}
