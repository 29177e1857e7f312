// Package api is the node's interface over HTTP: Connect (connectrpc.com) with
// protobuf, or the same calls as plain JSON, such as curl sends. Operators of
// the machine use a Unix socket; others, and agents, TLS with a certificate of
// the node's own authority.
//
// What is served registers itself as a Service; the package knows none of the
// rooms behind them.
package api
