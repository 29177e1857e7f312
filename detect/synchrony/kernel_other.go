//go:build !amd64

package synchrony

func fastestKernel() kernel { return wordKernel(comparePortable) }

func fastestDots() dots { return dotsPortable }
