package logging

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLevelAndFormat(t *testing.T) {
	for _, c := range []struct {
		config Configuration
		want   string
	}{
		{Configuration{slog.LevelWarn, "text"}, "level=WARN msg=b"},
		{Configuration{slog.LevelInfo, "json"}, `"msg":"a"`},
		{Configuration{slog.LevelInfo, "auto"}, `"msg":"a"`}, // a buffer is not a terminal
	} {
		var b bytes.Buffer
		log, level := New(c.config, &b)
		log.Info("a")
		log.Warn("b")
		if got := b.String(); !strings.Contains(got, c.want) || c.config.Level == slog.LevelWarn && strings.Contains(got, "msg=a") {
			t.Errorf("%v wrote %s", c.config, got)
		}
		b.Reset()
		level.Set(slog.LevelError)
		if log.Warn("c"); b.Len() > 0 {
			t.Errorf("%v wrote %s below its new level", c.config, &b)
		}
	}
}
