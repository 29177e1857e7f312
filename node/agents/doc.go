// Package agents is the node's side of its agents: who they are (enrolment by
// one-time tokens, certificates, revocation), what they are to do (a document
// of configuration for each role or agent), and what they send (items, each
// handled once).
//
// A room that has something to do with agents registers a Handler for the kinds
// of items it understands, and sets the documents of the roles it looks after.
package agents
