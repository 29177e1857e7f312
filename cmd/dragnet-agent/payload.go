package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"dragnet/contain/reset"
	"dragnet/dossier"
	"dragnet/signature/inspect"
	"dragnet/source/sensor"
	"dragnet/wire/channel"
)

// payloadPart matches the node's signatures in payload, and resets connections
// where a decision says so.
type payloadPart struct {
	bounds     inspect.Configuration
	signatures *inspect.Signatures
	resetter   *reset.Resetter
	log        *slog.Logger

	mayReset bool
	socket   *reset.Socket // nil unless it is started and may reset
}

// newPayloadPart makes the part; Start opens what it needs.
func newPayloadPart(c sensor.Payload, ignoreChecksums bool, log *slog.Logger) *payloadPart {
	p := &payloadPart{signatures: new(inspect.Signatures), log: log, mayReset: c.Reset}
	var out reset.Sender
	if c.Reset {
		out = p
	}
	p.resetter = reset.New(reset.Dependencies{Sender: out, Log: log})
	p.bounds = inspect.Configuration{Bytes: c.Bytes, Held: c.Held, Connections: c.Connections, IgnoreChecksums: ignoreChecksums, Reset: p.resetter.Take}
	return p
}

// Start opens the socket that resets are sent by, in the calling thread's network
// namespace.
func (p *payloadPart) Start(context.Context) (err error) {
	if p.mayReset {
		p.socket, err = reset.Open()
	}
	return err
}

// Stop closes it; the inspectors have ended.
func (p *payloadPart) Stop(context.Context) error {
	if p.socket == nil {
		return nil
	}
	return p.socket.Close()
}

// Send implements reset.Sender.
func (p *payloadPart) Send(s reset.Segment) error {
	if p.socket == nil {
		return errors.New("the agent has not started")
	}
	return p.socket.Send(s)
}

func (p *payloadPart) newInspector() *inspect.Inspector { return inspect.New(p.bounds, p.signatures) }

// use puts the signatures of the node into use, and its decisions about them.
func (p *payloadPart) use(format uint32, body []byte, version string) error {
	if format != sensor.SignaturesFormat {
		return fmt.Errorf("signatures of format %d; this agent knows %d", format, sensor.SignaturesFormat)
	}
	all, resets, err := dossier.OpenSignatureSet(body)
	if err == nil {
		err = p.signatures.Use(all)
	}
	if err != nil {
		return err
	}
	p.resetter.Use(*resets)
	p.signatures.JudgePromptly(len(resets.Decisions) > 0)
	p.log.Info("signatures in use", "signatures", len(all), "version", version, "resets", len(resets.Decisions))
	return nil
}

// apply implements the channel's callback.
func (p *payloadPart) apply(_ context.Context, d channel.Document) error {
	return p.use(d.Format, d.Body, d.Version)
}
