package dossier

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"dragnet/internal/hint"
)

// The outer object of a signature file. Body is kept as received, because the
// seal covers its bytes.
type sealedFile struct {
	Format  string          `json:"format"`
	Version int             `json:"version"`
	Key     []byte          `json:"key,omitempty"`  // Ed25519 public key
	Seal    []byte          `json:"seal,omitempty"` // over sealContext and the compacted body
	Body    json.RawMessage `json:"body"`
}

const (
	signatureFormat  = "dragnet-signature"
	signatureVersion = 1
	sealContext      = "dragnet-signature version 1\n"
	// MaxSignatureFile bounds what OpenSignature reads.
	MaxSignatureFile = 64 << 20
)

// EncodeSignature writes s as a signature file, sealed with key unless that is
// nil.
func EncodeSignature(s *Signature, key ed25519.PrivateKey) ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("signature %s: %w", s.Name, err)
	}
	out := sealedFile{Format: signatureFormat, Version: signatureVersion, Body: body}
	if key != nil {
		out.Key = key.Public().(ed25519.PublicKey)
		out.Seal = ed25519.Sign(key, append([]byte(sealContext), body...))
	}
	file, err := json.Marshal(out)
	return append(file, '\n'), err
}

// notSignature is what to do about a file that is none.
const notSignature = "want what 'dragnet signature learn' or 'generate' wrote"

// OpenSignature reads a signature file. A seal that does not verify is always
// an error. With trusted keys given, the file must be sealed by one of them;
// without, an unsealed file is accepted and by is nil.
func OpenSignature(file []byte, trusted ...ed25519.PublicKey) (s *Signature, by ed25519.PublicKey, err error) {
	if len(file) > MaxSignatureFile {
		return nil, nil, fmt.Errorf("signature file has %d bytes, at most %d", len(file), MaxSignatureFile)
	}
	var in sealedFile
	if err := json.Unmarshal(file, &in); err != nil {
		return nil, nil, hint.Add(fmt.Errorf("not a signature file: %w", err), notSignature)
	}
	if in.Format != signatureFormat {
		return nil, nil, hint.Add(fmt.Errorf("not a signature file: format is %q, want %q", in.Format, signatureFormat), notSignature)
	}
	if in.Version != signatureVersion {
		return nil, nil, fmt.Errorf("signature file version %d is not supported (want version %d)", in.Version, signatureVersion)
	}
	if by, err = in.verifySeal(trusted); err != nil {
		return nil, nil, err
	}
	s = new(Signature)
	if err := json.Unmarshal(in.Body, s); err != nil {
		return nil, nil, fmt.Errorf("signature body: %w", err)
	}
	return s, by, s.Check()
}

func (in *sealedFile) verifySeal(trusted []ed25519.PublicKey) (ed25519.PublicKey, error) {
	if len(in.Seal) == 0 && len(in.Key) == 0 {
		if len(trusted) > 0 {
			return nil, errors.New("signature file is not sealed, and only sealed files of trusted keys are accepted")
		}
		return nil, nil
	}
	if len(in.Key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("signature file: key has %d bytes, want %d", len(in.Key), ed25519.PublicKeySize)
	}
	var body bytes.Buffer
	body.WriteString(sealContext)
	if err := json.Compact(&body, in.Body); err != nil {
		return nil, fmt.Errorf("signature body: %w", err)
	}
	key := ed25519.PublicKey(in.Key)
	if !ed25519.Verify(key, body.Bytes(), in.Seal) {
		return nil, errors.New("signature file: the seal does not match the body; it was changed after it was signed")
	}
	if len(trusted) > 0 && !slices.ContainsFunc(trusted, func(k ed25519.PublicKey) bool { return k.Equal(key) }) {
		return nil, fmt.Errorf("signature file: sealed by %x, which is not a trusted key", in.Key)
	}
	return key, nil
}

// ParsePublicKey reads the Ed25519 public key of a PEM file, as 'openssl pkey
// -pubout' writes it.
func ParsePublicKey(text []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	public, ok := key.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, errors.New("not an Ed25519 public key")
	}
	return public, nil
}
