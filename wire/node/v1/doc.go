// Package nodev1 is version 1 of what a node offers its operators over HTTP:
// the flows it keeps, the state of its store, questions to its own log, and its
// agents. docs/reference/api.md lists it for people.
//
// Fields are added, never changed or used again.
package nodev1
