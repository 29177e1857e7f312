package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"dragnet/internal/cli"
	"dragnet/signature/sequence"
	"dragnet/trap/vault"
)

// readVault reads what a trap kept, with the key that its vault made.
func readVault(dir string, do func(*sequence.Recorded) error) error {
	keys, err := vault.ReadKey(filepath.Join(dir, vault.KeyFile))
	if err != nil {
		return cli.Hint(fmt.Errorf("%s holds what a trap recorded, encrypted: %w", dir, err),
			"copy the private key of vault.recipients to "+vault.KeyFile+" in a copy of that folder")
	}
	return vault.Sessions(dir, func(l *vault.Line) error {
		for _, side := range []sequence.Recorded{{}, {Answer: true}} {
			sum := l.Sent
			if side.Answer {
				sum = l.Answered
			}
			if sum == "" {
				continue
			}
			side.Session, side.Service = l.ID, sequence.Service{Proto: l.Proto, Port: l.Server.Port()}
			side.Payload, err = vault.ReadPayload(dir, sum, keys)
			if errors.Is(err, fs.ErrNotExist) { // removed for its age
				continue
			}
			if err != nil {
				return err
			}
			if err := do(&side); err != nil {
				return err
			}
		}
		return nil
	})
}
