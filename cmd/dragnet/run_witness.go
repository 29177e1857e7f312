package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"dragnet/node/config"
	"dragnet/node/service"
	"dragnet/node/testify"
)

// openEpochs has keys computed under the epochs of the community; nil where no
// clearinghouse publishes any.
func openEpochs(c config.Configuration, s *service.Service) (*testify.Epochs, error) {
	if c.Testify.Clearinghouse.URL == "" {
		return nil, nil
	}
	epochs, err := testify.OpenEpochs(filepath.Join(c.Store.Directory, "epochs.json"))
	if err == nil {
		s.UseEpochs(epochs.Name)
	}
	return epochs, err
}

// startWitness is nil where the configuration lets nobody ask.
func startWitness(ctx context.Context, c config.Configuration, s *service.Service, epochs *testify.Epochs, log *slog.Logger) (*testify.Service, error) {
	if c.Testify.Off() {
		return nil, nil
	}
	stored, err := s.Log(ctx)
	if err != nil {
		return nil, err
	}
	w, err := testify.New(c.Testify, testify.Dependencies{
		Site: c.Site, Witness: c.Witness, Log: stored, Directory: c.Store.Directory, Logger: log, Metrics: s.Registry(), Epochs: epochs,
	})
	if err == nil {
		err = w.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, stored.Close())
	}
	log.Info("witness", "listen", w.Address(), "relays", len(c.Testify.Relays), "key", w.Key())
	return w, nil
}

// witnessFailed gives the error that ended the witness by itself.
func (n *node) witnessFailed() <-chan error {
	if n.witness == nil {
		return nil
	}
	return n.witness.Failed()
}
