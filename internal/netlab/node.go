package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Node is one network namespace, configured as a host, a router or a switch.
type Node struct {
	// Name is its name in the Lab.
	Name string
	// Namespace is its name for "ip netns".
	Namespace string

	lab   *Lab
	ns    netns.NsHandle
	links *netlink.Handle // a netlink socket inside the namespace
}

// Do runs f on a thread inside the node's namespace. Sockets that f opens stay
// in the namespace after f returns; goroutines that f starts are outside it,
// so dial addresses rather than names.
func (n *Node) Do(f func() error) error {
	_, err := onThread(func() (struct{}, error) {
		if err := netns.Set(n.ns); err != nil {
			return struct{}{}, fmt.Errorf("enter %s: %w", n.Name, err)
		}
		return struct{}{}, f()
	})
	return err
}

// Address gives an interface an address and with it the route to its prefix.
func (n *Node) Address(dev string, prefix netip.Prefix) error {
	return n.onLink("address "+prefix.String(), dev, func(link netlink.Link) error {
		// Who else has the address is not asked, so that it is of use at once.
		return n.links.AddrAdd(link, &netlink.Addr{IPNet: ipNet(prefix), Flags: unix.IFA_F_NODAD})
	})
}

// Route sends packets for dst to a router. The default route is a dst of
// 0.0.0.0/0 or ::/0.
func (n *Node) Route(dst netip.Prefix, via netip.Addr) error {
	err := n.links.RouteAdd(&netlink.Route{Dst: ipNet(dst.Masked()), Gw: via.AsSlice()})
	if err != nil {
		return fmt.Errorf("%s: route %s via %s: %w", n.Name, dst, via, err)
	}
	return nil
}

// RouteOn adds a route to dst for hosts that are directly on an interface.
func (n *Node) RouteOn(dst netip.Prefix, dev string) error {
	return n.onLink("route "+dst.String(), dev, func(link netlink.Link) error {
		return n.links.RouteAdd(&netlink.Route{
			Dst: ipNet(dst.Masked()), LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK,
		})
	})
}

// Bridge makes the node a switch between the given interfaces. The bridge is
// an interface of the node itself and can have addresses.
func (n *Node) Bridge(name string, ports ...string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := n.links.LinkAdd(bridge); err != nil {
		return fmt.Errorf("%s: bridge %s: %w", n.Name, name, err)
	}
	for _, port := range ports {
		err := n.onLink("join bridge "+name, port, func(link netlink.Link) error {
			return n.links.LinkSetMaster(link, bridge)
		})
		if err != nil {
			return err
		}
	}
	return n.bringUp(name)
}

// Forward makes the node a router for IPv4 and IPv6.
func (n *Node) Forward() error {
	if err := n.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
		return err
	}
	return n.Sysctl("net.ipv6.conf.all.forwarding", "1")
}

// Sysctl sets a kernel parameter of the namespace, named as sysctl(8) does.
func (n *Node) Sysctl(key, value string) error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
	return n.Do(func() error {
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("%s: set %s: %w", n.Name, key, err)
		}
		return nil
	})
}

// Nameserver sets the resolver for programs started in the node.
func (n *Node) Nameserver(addr netip.Addr) error {
	dir := filepath.Join(configDir, n.Namespace)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver "+addr.String()+"\n"), 0o644)
}

func (n *Node) bringUp(dev string) error { return n.onLink("bring up", dev, n.links.LinkSetUp) }

func (n *Node) onLink(what, dev string, f func(netlink.Link) error) error {
	link, err := n.links.LinkByName(dev)
	if err == nil {
		err = f(link)
	}
	if err != nil {
		return fmt.Errorf("%s: %s on %s: %w", n.Name, what, dev, err)
	}
	return nil
}

// disableOffloads switches off the offloads that let incomplete packets cross a
// veth: missing checksums, and segments larger than the link's MTU.
func (n *Node) disableOffloads(dev string) error { return n.Offload(dev, false) }

// Offload switches checksum, segmentation and receive offload of an interface
// together. Wire leaves them off.
func (n *Node) Offload(dev string, on bool) error {
	return n.Do(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		err = tool.Change(dev, map[string]bool{
			"tx-checksum-ip-generic": on, "tx-generic-segmentation": on, "rx-gro": on,
		})
		if err != nil {
			return fmt.Errorf("%s: set offloads of %s to %v: %w", n.Name, dev, on, err)
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
