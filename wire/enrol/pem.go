package enrol

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY" // PKCS #8 (RFC 5958)
)

// encodePair writes a certificate (DER; nil for none) and its key.
func encodePair(k *ecdsa.PrivateKey, certificate []byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	var text []byte
	if certificate != nil {
		text = pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: certificate})
	}
	return append(text, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})...), nil
}

// readPair reads a key and its certificate from a file that only its owner may
// read.
func readPair(path string) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	k, certificate, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	if certificate == nil || !k.PublicKey.Equal(certificate.PublicKey) {
		return nil, nil, fmt.Errorf("%s: holds no certificate for its key", path)
	}
	return k, certificate, nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	k, _, err := read(path)
	return k, err
}

func read(path string) (k *ecdsa.PrivateKey, certificate *x509.Certificate, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, nil, fmt.Errorf("%s: others may read this private key (mode %#o); 'chmod 600 %s', and revoke it if they did", path, mode, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	if k, certificate, err = decode(data); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, certificate, nil
}

func decode(data []byte) (k *ecdsa.PrivateKey, certificate *x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		switch block.Type {
		case certificateBlock:
			certificate, err = x509.ParseCertificate(block.Bytes)
		case keyBlock:
			var any any
			any, err = x509.ParsePKCS8PrivateKey(block.Bytes)
			k, _ = any.(*ecdsa.PrivateKey)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if k == nil {
		return nil, nil, errors.New("holds no private key of ours")
	}
	return k, certificate, nil
}
