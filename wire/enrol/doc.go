// Package enrol is how a node knows its agents and operators, and they the
// node: an authority of the node's own, the certificates it gives, the one-time
// tokens they are given for, and the folder in which their owner keeps them.
//
// There is no other authority. A token carries a digest of the authority's
// key, so who redeems it knows the node before it says anything; addresses
// and names in a node's certificate do not matter to an agent.
package enrol
