package conf

import (
	"errors"
	"fmt"
)

// Under puts the key of a section before the keys that errors of its Validate
// start with, so that a package need not know where it is mounted. Errors that
// were joined stay apart.
func Under(section string, err error) error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s.%w", section, err)
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, Under(section, e))
	}
	return errors.Join(all...)
}
