// Package agents is the node's side of its agents: their identity (enrolment by
// one-time tokens, certificates, revocation), their configuration (a document for
// each role or agent), and the items they send, each of which is handled once.
//
// A package that deals with agents registers a Handler for the kinds of items it
// understands, and sets the documents of its roles.
package agents
