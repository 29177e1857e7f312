package channel

import (
	"context"
	"fmt"
	"time"

	agentv1 "dragnet/wire/agent/v1"
	"dragnet/wire/enrol"
)

// renew keeps the certificate good until ctx ends: a new one is asked for when
// two thirds of it are over.
func (c *Client) renew(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		from, until := c.folder.Validity()
		due := until.Add(-until.Sub(from) / 3)
		// A short look ahead, since clocks may be set and machines may sleep.
		if wait := due.Sub(c.now()); wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(min(wait, time.Hour)):
			}
			continue
		}
		if err := c.renewNow(ctx); err != nil && ctx.Err() == nil {
			failures++
			c.deps.Log.Warn("renew certificate failed", "ends", until, "err", err)
			if !c.retry.wait(ctx, failures) {
				return
			}
			continue
		}
		failures = 0
	}
}

func (c *Client) renewNow(ctx context.Context) error {
	request, err := enrol.Request(c.config.State)
	if err != nil {
		return err
	}
	asked, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	got, err := c.node().RenewCertificate(asked, &agentv1.RenewCertificateRequest{Request: request})
	if err != nil {
		return err
	}
	if err := c.folder.Renewed(got.Certificate); err != nil {
		return fmt.Errorf("keep the new certificate: %w", err)
	}
	_, until := c.folder.Validity()
	c.deps.Log.Info("certificate renewed", "until", until)
	c.connect()
	return nil
}
