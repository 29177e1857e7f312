package main

import "dragnet/internal/cli"

// stageProgress reports the progress of work in several stages, one after another.
type stageProgress struct {
	what    string
	current *cli.Progress
}

func newStageProgress() *stageProgress { return &stageProgress{} }

// addDone counts n more done of a stage; a new name ends the stage before.
func (s *stageProgress) addDone(what string, n int) {
	if s.current == nil || what != s.what {
		s.endStage()
		s.what, s.current = what, cli.NewProgress(what, 0)
	}
	s.current.Add(int64(n))
}

func (s *stageProgress) endStage() {
	if s.current != nil {
		s.current.Done()
	}
}
