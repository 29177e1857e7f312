package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"dragnet/internal/conf"
)

// Webhook posts JSON.
type Webhook struct {
	// URL is https://..., or http:// for a receiver on this machine.
	URL string `yaml:"url"`
	// Secret signs: X-Dragnet-Signature is "sha256=" and the hexadecimal
	// HMAC-SHA256 of X-Dragnet-Timestamp, a full stop, and the body.
	Secret conf.Secret `yaml:"secret"`
	// Token is sent as Authorization: Bearer, for receivers that want one (RFC
	// 6750). One of Secret and Token is needed.
	Token conf.Secret `yaml:"token"`
	// Timeout bounds one attempt.
	Timeout time.Duration `yaml:"timeout"`
}

// Validate reports all invalid settings.
func (c *Webhook) Validate() error {
	var p conf.Problems
	if c.URL == "" {
		return nil
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		p.Error("url", err)
		return p.Join()
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	p.Check(u.Scheme == "https" || u.Scheme == "http" && local, "url", "want https://..., or http:// to this machine")
	p.Check(len(c.Secret.Reveal()) >= 16 || c.Secret == "" && c.Token != "", "secret", "want at least 16 characters, so that the receiver can tell our notices from others'")
	p.Check(!strings.ContainsFunc(c.Token.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }), "token", "want printable ASCII without spaces")
	p.Check(c.Timeout > 0 && c.Timeout <= 5*time.Minute, "timeout", "is %v; want above 0 and at most 5m", c.Timeout)
	return p.Join()
}

type webhook struct {
	c      Webhook
	client *http.Client
}

// newWebhook follows no redirects: a redirect would send a signed notice to
// another receiver.
func newWebhook(c Webhook) *webhook {
	return &webhook{c, &http.Client{Timeout: c.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (w *webhook) name() string {
	if w.c.URL == "" {
		return ""
	}
	return "webhook"
}

func (w *webhook) collectFor() time.Duration { return 0 }

func (w *webhook) send(ctx context.Context, notices []Notice) error {
	for i := range notices {
		if err := w.postNotice(ctx, &notices[i]); err != nil {
			return fmt.Errorf("webhook: %w", err)
		}
	}
	return nil
}

func (w *webhook) postNotice(ctx context.Context, n *Notice) error {
	body, err := json.Marshal(struct {
		Version int `json:"version"`
		*Notice
	}{1, n})
	if err != nil {
		return permanent{err}
	}
	return w.post(ctx, body)
}

// post sends a body. What the receiver will never take is a permanent error.
func (w *webhook) post(ctx context.Context, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.c.URL, bytes.NewReader(body))
	if err != nil {
		return permanent{err}
	}
	request.Header.Set("Content-Type", "application/json")
	if w.c.Secret != "" {
		stamp := strconv.FormatInt(time.Now().Unix(), 10)
		request.Header.Set("X-Dragnet-Timestamp", stamp)
		request.Header.Set("X-Dragnet-Signature", Signature(w.c.Secret.Reveal(), stamp, body))
	}
	if w.c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+w.c.Token.Reveal())
	}
	answer, err := w.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16)) // so that the connection can be reused
	switch code := answer.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500:
		return fmt.Errorf("the receiver answers %s", answer.Status)
	default:
		return permanent{fmt.Errorf("the receiver answers %s", answer.Status)}
	}
}

// Signature returns the value of X-Dragnet-Signature; a receiver computes it from
// the secret, X-Dragnet-Timestamp and the body, and compares.
func Signature(secret, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}
