package main

import "dragnet/internal/cli"

// stageProgress reports work that goes through several stages: each has a
// progress report of its own.
type stageProgress struct {
	what    string
	current *cli.Progress
}

func stages() *stageProgress { return &stageProgress{} }

// add counts n more done of a stage; a new name ends the stage before.
func (s *stageProgress) add(what string, n int) {
	if s.current == nil || what != s.what {
		s.done()
		s.what, s.current = what, cli.NewProgress(what, 0)
	}
	s.current.Add(int64(n))
}

func (s *stageProgress) done() {
	if s.current != nil {
		s.current.Done()
	}
}
