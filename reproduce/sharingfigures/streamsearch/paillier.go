// Package streamsearch is an experiment, for a table of 'dragnet reproduce'
// only: private stream searching in its simplest form, over Paillier's
// cryptosystem on math/big. It is not constant time, does not defend against
// malicious parties, and must not be used for anything else.
//
// Allman et al. 2006, section 3.2, point to private stream searching
// (Bethencourt, Song and Waters 2006, after Ostrovsky and Skeith 2005) as the
// scheme with more of the wanted qualities "at additional computational cost".
package streamsearch

import (
	"crypto/rand"
	"fmt"
	"math/big"
)

var one = big.NewInt(1)

// publicKey encrypts numbers below n as (1+n)^m r^n mod n^2 (Paillier 1999,
// with g = 1+n): products of ciphertexts encrypt sums.
type publicKey struct{ n, square *big.Int }

// privateKey decrypts.
type privateKey struct {
	publicKey
	lambda, mu *big.Int // lcm(p-1, q-1) and its inverse modulo n
}

// newKey draws a key with a modulus of the given bits.
func newKey(bits int) (*privateKey, error) {
	for {
		p, err := rand.Prime(rand.Reader, bits/2)
		if err != nil {
			return nil, fmt.Errorf("draw a prime: %w", err)
		}
		q, err := rand.Prime(rand.Reader, bits-bits/2)
		if err != nil {
			return nil, fmt.Errorf("draw a prime: %w", err)
		}
		n := new(big.Int).Mul(p, q)
		p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
		product := new(big.Int).Mul(p1, q1)
		if p.Cmp(q) == 0 || new(big.Int).GCD(nil, nil, n, product).Cmp(one) != 0 {
			continue
		}
		lambda := product.Div(product, new(big.Int).GCD(nil, nil, p1, q1))
		return &privateKey{
			publicKey{n, new(big.Int).Mul(n, n)}, lambda, new(big.Int).ModInverse(lambda, n),
		}, nil
	}
}

func (k *publicKey) encrypt(m *big.Int) (*big.Int, error) {
	r, err := rand.Int(rand.Reader, k.n)
	if err != nil {
		return nil, err
	}
	for r.Sign() == 0 || new(big.Int).GCD(nil, nil, r, k.n).Cmp(one) != 0 {
		if r, err = rand.Int(rand.Reader, k.n); err != nil {
			return nil, err
		}
	}
	c := new(big.Int).Mul(m, k.n)
	c.Add(c, one)
	c.Mul(c, r.Exp(r, k.n, k.square))
	return c.Mod(c, k.square), nil
}

// addTo makes sum encrypt its number plus that of c.
func (k *publicKey) addTo(sum, c *big.Int) { sum.Mod(sum.Mul(sum, c), k.square) }

// scaleBy is an encryption of c's number times m.
func (k *publicKey) scaleBy(c, m *big.Int) *big.Int { return new(big.Int).Exp(c, m, k.square) }

func (k *privateKey) decrypt(c *big.Int) *big.Int {
	m := new(big.Int).Exp(c, k.lambda, k.square)
	m.Div(m.Sub(m, one), k.n)
	return m.Mod(m.Mul(m, k.mu), k.n)
}

// ciphertextSize is the size of one ciphertext on the wire.
func (k *publicKey) ciphertextSize() int { return (k.square.BitLen() + 7) / 8 }
