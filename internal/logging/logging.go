// Package logging writes a role's log to standard error. The key of an error is
// "err", and "component" names the part that logs.
package logging

import (
	"fmt"
	"io"
	"log/slog"
	"os"
)

// Configuration of a role's log.
type Configuration struct {
	// Level is the least severe level that is written: DEBUG, INFO, WARN or
	// ERROR.
	Level slog.Level `yaml:"level"`
	// Format is text, json, or auto: text on a terminal, JSON elsewhere.
	Format string `yaml:"format"`
}

// DefaultConfiguration writes INFO and above.
func DefaultConfiguration() Configuration {
	return Configuration{Level: slog.LevelInfo, Format: "auto"}
}

// Validate reports an unknown format.
func (c *Configuration) Validate() error {
	switch c.Format {
	case "auto", "text", "json":
		return nil
	}
	return fmt.Errorf("format: %q is not one of auto, text, json", c.Format)
}

// New makes a logger that writes to w as configured; "auto" checks whether w is a
// terminal. The level can be changed while the logger is used.
func New(c Configuration, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := &slog.LevelVar{}
	level.Set(c.Level)
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "text" || c.Format == "auto" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, opts)), level
	}
	return slog.New(slog.NewJSONHandler(w, opts)), level
}

// Component returns the logger of one part of a program.
func Component(log *slog.Logger, name string) *slog.Logger { return log.With("component", name) }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
