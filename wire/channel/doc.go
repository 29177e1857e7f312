// Package channel is an agent's side of the channel to its node: it enrols,
// renews its certificate, fetches the configuration of its role, and sends what
// the agent saw.
//
// The node may be away at any time and for long. The last configuration that
// the role could use is kept and used meanwhile, and what is sent waits in a
// spool: in order, on disk, each item counted once by the node however often it
// has to be sent.
package channel
