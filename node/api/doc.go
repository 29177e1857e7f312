// Package api is the node's interface over HTTP: Connect (connectrpc.com) with
// protobuf, or the same calls as plain JSON, as curl sends them. Operators of
// the machine use a Unix socket; others, and agents, TLS with a certificate
// issued by the node's authority.
//
// The package serves whatever Services it is given, and imports none of the
// rooms behind them.
package api
