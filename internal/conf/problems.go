package conf

import (
	"errors"
	"fmt"
)

// Problems collects what is wrong with a configuration, for a Validate method
// that reports everything at once. A package names keys within its own section
// and need not know where that is mounted. The zero value has none.
type Problems struct{ errs []error }

// Check adds a problem of a key unless ok.
func (p *Problems) Check(ok bool, key, format string, args ...any) {
	if !ok {
		p.errs = append(p.errs, fmt.Errorf(key+": "+format, args...))
	}
}

// Error adds the problem err of a key, if there is one.
func (p *Problems) Error(key string, err error) {
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%s: %w", key, err))
	}
}

// Section adds what the Validate method of the section under a key returned.
func (p *Problems) Section(key string, err error) {
	if err == nil {
		return
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		p.errs = append(p.errs, fmt.Errorf("%s.%w", key, err))
		return
	}
	for _, e := range joined.Unwrap() {
		p.Section(key, e)
	}
}

// Join returns all problems, one error each; nil if there are none.
func (p *Problems) Join() error { return errors.Join(p.errs...) }
