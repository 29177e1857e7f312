package flow

import (
	"net/netip"
	"strings"
)

// Host is an address together with the network in which it is valid.
type Host struct {
	Addr netip.Addr `json:"host"`
	// Scope is empty for a globally unique address. 10.0.0.5 at two
	// organisations is two hosts, so a private address carries the name of the
	// witness that saw it.
	Scope string `json:"scope"`
}

// HostAt is the host that observer saw as addr.
func HostAt(addr netip.Addr, observer string) Host {
	h := Host{Addr: addr.Unmap().WithZone("")}
	if !Global(h.Addr) {
		h.Scope = observer
	}
	return h
}

// sharedSpace is carrier-grade NAT's range (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// Global reports whether addr means the same host everywhere: unicast, and not
// private, shared, loopback or link-local.
func Global(addr netip.Addr) bool {
	return addr.IsGlobalUnicast() && !addr.IsPrivate() && !sharedSpace.Contains(addr)
}

// Compare orders by address, then scope.
func (h Host) Compare(o Host) int {
	if c := h.Addr.Compare(o.Addr); c != 0 {
		return c
	}
	return strings.Compare(h.Scope, o.Scope)
}

// String is the address, with "%scope" when it is scoped.
func (h Host) String() string {
	if h.Scope == "" {
		return h.Addr.String()
	}
	return h.Addr.String() + "%" + h.Scope
}
