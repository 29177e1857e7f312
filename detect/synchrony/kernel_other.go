//go:build !amd64

package synchrony

func fastestCompare() compare { return comparePortable }

func fastestDots() dots { return dotsPortable }
