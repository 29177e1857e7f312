package biflow

import "dragnet/flow"

// TCPState is Zeek's conn_state as far as the union of the flags of each side,
// and whether it sent anything, tell it; for sources that count every packet.
func TCPState(orig, resp flow.TCPFlags, origSeen, respSeen bool) flow.State {
	return tcpState(&side{seen: origSeen, flags: orig}, &side{seen: respSeen, flags: resp}, false)
}
