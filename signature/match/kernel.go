package match

// Kernel is an implementation of the filter that skips windows that cannot
// reach a limit.
type Kernel int

// The kernels, slowest first. Portable has no vector code at all.
const (
	Portable Kernel = iota
	AVX2
	VBMI // AVX-512 with byte permutations
)

// String is the name of k.
func (k Kernel) String() string { return [...]string{"portable", "avx2", "avx512vbmi"}[k] }

// Kernels lists the kernels this machine can run, slowest first.
func Kernels() []Kernel {
	ks := []Kernel{Portable}
	for _, k := range []Kernel{AVX2, VBMI} {
		if isSupported(k) {
			ks = append(ks, k)
		}
	}
	return ks
}

// MissingKernels lists the kernels that this machine cannot run.
func MissingKernels() (missing []Kernel) {
	for _, k := range []Kernel{AVX2, VBMI} {
		if !isSupported(k) {
			missing = append(missing, k)
		}
	}
	return missing
}

// Fastest is the default kernel.
func Fastest() Kernel {
	ks := Kernels()
	return ks[len(ks)-1]
}
