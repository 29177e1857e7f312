// Package exchangev1 is the generated code of exchange.proto: what detectives,
// witnesses and relays say to each other.
package exchangev1
