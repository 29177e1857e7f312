// Package call redeems tokens over the network: an investigator whose public
// key an administrator has listed gets the signed redemptions of a host without
// the administrator making each by hand. Both sides present self-signed
// certificates of their Ed25519 keys in TLS 1.3 and check the key, not the
// name: no certificate authority is needed.
package call

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"time"

	"dragnet/trace/token"
)

// Port is the default port of calls.
const Port = 1113

// maxTokens bounds one call.
const maxTokens = 256

// request is the body of a call, JSON.
type request struct {
	Tokens []string `json:"tokens"`
	Reason string   `json:"reason"`
}

// makeCertificate wraps a key in the form TLS wants.
func makeCertificate(key ed25519.PrivateKey) (tls.Certificate, error) {
	// The fields carry no information and never expire: only the key is
	// checked.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("wrap key: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func peerKey(s tls.ConnectionState) (ed25519.PublicKey, error) {
	if len(s.PeerCertificates) != 1 {
		return nil, errors.New("the peer did not send exactly one certificate")
	}
	k, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("the peer's key is not Ed25519")
	}
	return k, nil
}

// ServerTLS accepts the listed investigators only.
func ServerTLS(key ed25519.PrivateKey, investigators []ed25519.PublicKey) (*tls.Config, error) {
	cert, err := makeCertificate(key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(s tls.ConnectionState) error {
			k, err := peerKey(s)
			if err != nil {
				return err
			}
			for _, allowed := range investigators {
				if allowed.Equal(k) {
					return nil
				}
			}
			return fmt.Errorf("investigator %s is not listed", token.FormatKey(k))
		},
	}, nil
}

// Handler answers calls from the records in dir, and logs each token.
func Handler(dir string, key ed25519.PrivateKey, host string, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := peerKey(*r.TLS)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		var q request
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&q); err != nil || len(q.Tokens) > maxTokens {
			http.Error(w, fmt.Sprintf("send at most %d tokens as JSON", maxTokens), http.StatusBadRequest)
			return
		}
		redemptions := []token.SignedRedemption{}
		for _, t := range q.Tokens {
			reason := fmt.Sprintf("call by %s: %s", token.FormatKey(who), q.Reason)
			l, err := token.Redeem(dir, key, t, host, reason, time.Now())
			if err != nil {
				log.Error("redeem token failed", "token", t, "err", err)
				http.Error(w, "the token cannot be redeemed; see the host's log", http.StatusInternalServerError)
				return
			}
			log.Info("token redeemed", "token", t, "by", token.FormatKey(who), "reason", q.Reason)
			redemptions = append(redemptions, l)
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(redemptions)
	})
}

// Redeem calls a host. With hostKey nil any key is accepted: whether it is the
// host's is then for the caller to judge by their signatures.
func Redeem(ctx context.Context, address string, key ed25519.PrivateKey, hostKey ed25519.PublicKey, tokens []string, reason string) ([]token.SignedRedemption, error) {
	cert, err := makeCertificate(key)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
			InsecureSkipVerify: true, // names and chains; the key is checked below
			VerifyConnection: func(s tls.ConnectionState) error {
				k, err := peerKey(s)
				if err == nil && hostKey != nil && !hostKey.Equal(k) {
					err = fmt.Errorf("%s has key %s, not the expected %s", address, token.FormatKey(k), token.FormatKey(hostKey))
				}
				return err
			},
		},
	}}
	body, err := json.Marshal(request{tokens, reason})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+"/redeem", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", address, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, token.MaxSignedRedemption+1))
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", address, err)
	}
	if resp.StatusCode != http.StatusOK || len(answer) > token.MaxSignedRedemption {
		return nil, fmt.Errorf("call %s: %s: %.200s", address, resp.Status, answer)
	}
	var redemptions []token.SignedRedemption
	if err := json.Unmarshal(answer, &redemptions); err != nil {
		return nil, fmt.Errorf("call %s: %w", address, err)
	}
	return redemptions, nil
}
