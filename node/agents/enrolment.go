package agents

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"dragnet/internal/state"
	"dragnet/wire/enrol"
)

// maxTokenLife bounds how long a token can be redeemed.
const maxTokenLife = 30 * 24 * time.Hour

// NewToken makes a one-time token for a member of this name and role, which
// expires after life. The name may be that of a revoked member.
func (r *Registry) NewToken(ctx context.Context, name, role string, life time.Duration) (enrol.Token, error) {
	if err := checkRole(role); err != nil {
		return enrol.Token{}, err
	}
	if !memberName.MatchString(name) {
		return enrol.Token{}, fmt.Errorf("%w: %q is not a valid name; want lower-case letters, digits, '.', '_' and '-', at most 63", ErrWrong, name)
	}
	if life <= 0 || life > maxTokenLife {
		return enrol.Token{}, fmt.Errorf("%w: a token lasts up to %v, not %v", ErrWrong, maxTokenLife, life)
	}
	token, err := enrol.NewToken(r.authority.Pin())
	if err != nil {
		return token, err
	}
	now := r.now()
	return token, r.db.Update(ctx, func(tx *state.Tx) error {
		if err := checkNameFree(tx, name); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM agent_token WHERE expires < ?`, now.UnixNano()); err != nil {
			return err
		}
		digest := token.Digest()
		_, err := tx.Exec(`INSERT INTO agent_token (digest, name, role, created, expires, used_by) VALUES (?, ?, ?, ?, ?, '')`,
			hex.EncodeToString(digest[:]), name, role, now.UnixNano(), now.Add(life).UnixNano())
		return err
	})
}

// checkNameFree returns an error if a new member cannot have this name.
func checkNameFree(tx *state.Tx, name string) error {
	var revoked int64
	err := tx.QueryRow(`SELECT revoked FROM agent_member WHERE name = ?`, name).Scan(&revoked)
	if err == nil && revoked == 0 {
		return fmt.Errorf("%w: %s is enrolled; revoke it first, or choose another name", ErrWrong, name)
	}
	return ignoreNoRows(err)
}

// ignoreNoRows returns nil if err only says that no row was found.
func ignoreNoRows(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// issuedCertificate is a certificate and its owner.
type issuedCertificate struct {
	name, role  string
	certificate *x509.Certificate
}

// errMadeUp is ErrToken for a token that never existed, or was forgotten.
var errMadeUp = fmt.Errorf("%w", ErrToken)

// applicant describes an agent that wants to enrol: the host and program it
// reports, and the role it asks for, empty for any.
type applicant struct{ host, program, role string }

// redeemToken exchanges a token for a certificate. The same key may redeem it
// again, since the answer may have been lost.
func (r *Registry) redeemToken(ctx context.Context, digest string, request []byte, a applicant) (out issuedCertificate, err error) {
	sum, err := enrol.KeyOf(request)
	if err != nil {
		return out, fmt.Errorf("%w: %w", ErrWrong, err)
	}
	key, now := hex.EncodeToString(sum[:]), r.now()
	// What a stranger makes up must not cost a transaction that writes.
	var there int
	if err := r.db.View(ctx, func(tx *state.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM agent_token WHERE digest = ?`, digest).Scan(&there)
	}); err != nil {
		return out, err
	}
	if there == 0 {
		return out, errMadeUp
	}
	err = r.db.Update(ctx, func(tx *state.Tx) error {
		var expires int64
		var usedBy string
		err := tx.QueryRow(`SELECT name, role, expires, used_by FROM agent_token WHERE digest = ?`, digest).Scan(&out.name, &out.role, &expires, &usedBy)
		if errors.Is(err, sql.ErrNoRows) || err == nil && (now.UnixNano() > expires || usedBy != "" && usedBy != key) {
			return ErrToken
		}
		if err != nil {
			return err
		}
		if a.role != "" && a.role != out.role {
			return fmt.Errorf("%w: the token is for a %s, not for a %s", ErrWrong, out.role, a.role)
		}
		if usedBy == "" {
			err = r.insertMember(tx, out.name, out.role, a, now)
		} else {
			err = checkRedeemable(tx, out.name)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE agent_token SET used_by = ? WHERE digest = ?`, key, digest); err != nil {
			return err
		}
		out.certificate, err = r.issueCertificate(tx, out.name, out.role, request, now)
		return err
	})
	return out, err
}

// checkRedeemable lets a token be redeemed again only while its member is what it made.
func checkRedeemable(tx *state.Tx, name string) error {
	var revoked, seen int64
	err := tx.QueryRow(`SELECT revoked, seen FROM agent_member WHERE name = ?`, name).Scan(&revoked, &seen)
	if err == nil && (revoked != 0 || seen != 0) {
		return ErrToken
	}
	return err
}

// insertMember adds a member, and replaces a revoked one of that name.
func (r *Registry) insertMember(tx *state.Tx, name, role string, a applicant, now time.Time) error {
	if err := checkNameFree(tx, name); err != nil {
		return err
	}
	for _, statement := range []string{
		`DELETE FROM agent_member WHERE name = ?`, `DELETE FROM agent_certificate WHERE member = ?`, `DELETE FROM agent_spool WHERE member = ?`,
	} {
		if _, err := tx.Exec(statement, name); err != nil {
			return err
		}
	}
	_, err := tx.Exec(`INSERT INTO agent_member (name, role, host, program, enrolled, revoked, seen, configuration, problem, waiting, dropped, received, refused, missed)
		VALUES (?, ?, ?, ?, ?, 0, 0, '', '', 0, 0, 0, 0, 0)`, name, role, a.host, a.program, now.UnixNano())
	return err
}

func (r *Registry) issueCertificate(tx *state.Tx, name, role string, request []byte, now time.Time) (*x509.Certificate, error) {
	c, err := r.authority.Issue(request, name, role, now, r.life)
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec(`INSERT INTO agent_certificate (serial, member, used, expires, number)
		VALUES (?, ?, 0, ?, (SELECT COALESCE(MAX(number), 0) + 1 FROM agent_certificate WHERE member = ?))`,
		serialOf(c), name, c.NotAfter.UnixNano(), name)
	return c, err
}

// maxCertificates bounds the unused certificates of a member.
const maxCertificates = 16

// renewCertificate issues a member a certificate for another key.
func (r *Registry) renewCertificate(ctx context.Context, name, role string, request []byte) (c *x509.Certificate, err error) {
	if _, err := enrol.KeyOf(request); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrong, err)
	}
	err = r.db.Update(ctx, func(tx *state.Tx) error {
		var n int
		if err := tx.QueryRow(`SELECT COUNT(*) FROM agent_certificate WHERE member = ?`, name).Scan(&n); err != nil {
			return err
		}
		if n >= maxCertificates {
			return fmt.Errorf("%w: %d certificates were asked for and not used", ErrWrong, n)
		}
		c, err = r.issueCertificate(tx, name, role, request, r.now())
		return err
	})
	return c, err
}

func serialOf(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

// FindMember returns the owner of a certificate; see api.MemberFinder. The first use of
// a certificate invalidates the earlier ones.
func (r *Registry) FindMember(ctx context.Context, c *x509.Certificate) (name, role string, err error) {
	serial := serialOf(c)
	var used, number int64
	err = r.db.View(ctx, func(tx *state.Tx) error {
		return tx.QueryRow(`SELECT m.name, m.role, c.used, c.number FROM agent_certificate c JOIN agent_member m ON m.name = c.member
			WHERE c.serial = ? AND c.expires > ? AND m.revoked = 0`, serial, r.now().UnixNano()).Scan(&name, &role, &used, &number)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", ErrRevoked
	}
	if err != nil || used != 0 {
		return name, role, err
	}
	return name, role, r.db.Update(ctx, func(tx *state.Tx) error {
		now := r.now().UnixNano()
		if _, err := tx.Exec(`UPDATE agent_certificate SET used = ? WHERE serial = ?`, now, serial); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE agent_member SET seen = ? WHERE name = ?`, now, name); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM agent_certificate WHERE member = ? AND number < ?`, name, number)
		return err
	})
}

// Revoke invalidates a member's certificates and tokens at once.
func (r *Registry) Revoke(ctx context.Context, name string) error {
	return r.db.Update(ctx, func(tx *state.Tx) error {
		done, err := tx.Exec(`UPDATE agent_member SET revoked = ? WHERE name = ? AND revoked = 0`, r.now().UnixNano(), name)
		if err != nil {
			return err
		}
		tokens, err := tx.Exec(`DELETE FROM agent_token WHERE name = ?`, name)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM agent_certificate WHERE member = ?`, name); err != nil {
			return err
		}
		members, err1 := done.RowsAffected()
		unused, err2 := tokens.RowsAffected()
		if members+unused == 0 && err1 == nil && err2 == nil {
			return fmt.Errorf("%w: %s is not enrolled", ErrUnknown, name)
		}
		return errors.Join(err1, err2)
	})
}
