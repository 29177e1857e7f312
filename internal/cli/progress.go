package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// Progress reports long work on stderr: a bar that redraws on a terminal, a
// line every 10 s elsewhere, nothing for work that ends sooner.
type Progress struct {
	what  string
	total int64
	out   io.Writer
	bar   bool

	mu   sync.Mutex // guards all below
	done int64
	last time.Time
	from time.Time
}

// NewProgress starts a report of total units of what; total 0 means unknown.
func NewProgress(what string, total int64) *Progress {
	now := time.Now()
	return &Progress{what: what, total: total, out: os.Stderr, bar: isTerminal(os.Stderr), from: now, last: now}
}

// Add reports n more units done. It is safe for concurrent use.
func (p *Progress) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	every := 10 * time.Second
	if p.bar {
		every = 100 * time.Millisecond
	}
	if time.Since(p.last) < every {
		return
	}
	p.last = time.Now()
	p.drawBar()
}

// Done ends the report and clears the bar.
func (p *Progress) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar && p.last != p.from {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

func (p *Progress) drawBar() {
	const width = 30
	elapsed := time.Since(p.from).Round(time.Second)
	if p.total <= 0 {
		p.writeLine(fmt.Sprintf("%s: %d done, %s", p.what, p.done, elapsed))
		return
	}
	share := min(float64(p.done)/float64(p.total), 1)
	text := fmt.Sprintf("%s: %3.0f %%, %s", p.what, 100*share, elapsed)
	if p.bar {
		full := int(share * width)
		text = fmt.Sprintf("%s [%s%s] %3.0f %% %s", p.what, strings.Repeat("=", full), strings.Repeat(" ", width-full), 100*share, elapsed)
	}
	p.writeLine(text)
}

func (p *Progress) writeLine(text string) {
	if p.bar {
		fmt.Fprintf(p.out, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintln(p.out, text)
}
