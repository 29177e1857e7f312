package conf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"

	"go.yaml.in/yaml/v3"
)

// Secret is a configuration value that no output shows: printing, logging and
// marshalling it in any format yields a mask.
type Secret string

const mask = "********"

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns the mask, or nothing if no secret is set.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// GoString masks the secret in %#v.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// LogValue masks the secret in logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalYAML masks the secret.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// MarshalJSON masks the secret.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// Show writes configuration c as YAML that Read accepts, secrets masked.
func Show(w io.Writer, c any) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(c); err != nil {
		return err
	}
	return enc.Close()
}

// Tree is configuration c as maps, lists and scalars under its YAML keys, for
// other formats; secrets are masked.
func Tree(c any) (map[string]any, error) {
	var b bytes.Buffer
	if err := Show(&b, c); err != nil {
		return nil, err
	}
	var tree map[string]any
	err := yaml.Unmarshal(b.Bytes(), &tree)
	return tree, err
}
