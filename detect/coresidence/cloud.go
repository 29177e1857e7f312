// Package coresidence finds tenants of a cloud who verify whether their virtual
// machines share a server with a victim (Zolotukhin, Ivannikova and Hämäläinen
// 2017): a master downloads from the victim while flooders send, and both show in
// the flows that the switches export.
//
// Flows are judged one by one, by session, and, which works best, by the times at
// which machines transmit. Functions here have no clock and no I/O.
package coresidence

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
)

// VM is a virtual machine by an address it has on the external network. Its
// addresses on a tenant's private network are not listed, so that what is sent
// there does not count.
type VM struct {
	Address netip.Addr `json:"address"`
	Tenant  string     `json:"tenant"`
	Name    string     `json:"name,omitempty"`
	// Created is zero when unknown.
	Created time.Time `json:"-"`
}

// maxVMs bounds a list of machines.
const maxVMs = 1 << 17

// ReadVMs reads a table of machines as CSV with a header: the columns address and
// tenant, and if known name and created (RFC 3339), in any order; others are
// ignored. That is what 'openstack server list --long -f csv' gives once its
// columns are named so.
func ReadVMs(r io.Reader) ([]VM, error) {
	c := csv.NewReader(r)
	c.TrimLeadingSpace = true
	header, err := c.Read()
	if err == io.EOF {
		return nil, errors.New("the list of machines is empty; its first line names the columns, such as: address,tenant,name,created")
	} else if err != nil {
		return nil, fmt.Errorf("list of machines: %w", err)
	}
	at := map[string]int{}
	for i, h := range header {
		at[strings.ToLower(strings.TrimSpace(strings.TrimPrefix(h, "\ufeff")))] = i
	}
	for _, need := range []string{"address", "tenant"} {
		if _, ok := at[need]; !ok {
			return nil, fmt.Errorf("the list of machines has no column %q; its first line is %q", need, strings.Join(header, ","))
		}
	}
	var vms []VM
	lines := map[netip.Addr]int{}
	for {
		record, err := c.Read()
		if err == io.EOF {
			return vms, nil
		} else if err != nil {
			return nil, fmt.Errorf("list of machines: %w", err)
		}
		line, _ := c.FieldPos(0)
		vm, err := parseVM(record, at)
		if err != nil {
			return nil, fmt.Errorf("list of machines, line %d: %w", line, err)
		}
		if first, ok := lines[vm.Address]; ok {
			return nil, fmt.Errorf("list of machines, line %d: %s is on line %d already", line, vm.Address, first)
		}
		if len(vms) == maxVMs {
			return nil, fmt.Errorf("list of machines: more than %d", maxVMs)
		}
		lines[vm.Address] = line
		vms = append(vms, vm)
	}
}

func parseVM(record []string, at map[string]int) (vm VM, err error) {
	cell := func(name string) string {
		if i, ok := at[name]; ok {
			return strings.TrimSpace(record[i])
		}
		return ""
	}
	if vm.Address, err = netip.ParseAddr(cell("address")); err != nil {
		return vm, fmt.Errorf("%q is not an address", cell("address"))
	}
	vm.Address = vm.Address.Unmap()
	if vm.Tenant = cell("tenant"); vm.Tenant == "" {
		return vm, fmt.Errorf("%s has no tenant", vm.Address)
	}
	vm.Name = cell("name")
	if text := cell("created"); text != "" {
		if vm.Created, err = time.Parse(time.RFC3339, text); err != nil {
			return vm, fmt.Errorf("created %q is not RFC 3339, such as 2026-11-22T10:00:00Z", text)
		}
	}
	return vm, nil
}

// Creations is the baseline that the paper rejects (section 3): the most
// machines that each tenant created within one span. Machines whose time of
// creation is unknown count nowhere.
func Creations(vms []VM, span time.Duration) map[string]int {
	counts := map[string]map[int64]int{}
	most := map[string]int{}
	for _, vm := range vms {
		if vm.Created.IsZero() || span <= 0 {
			continue
		}
		if counts[vm.Tenant] == nil {
			counts[vm.Tenant] = map[int64]int{}
		}
		at := vm.Created.UnixNano() / int64(span)
		counts[vm.Tenant][at]++
		most[vm.Tenant] = max(most[vm.Tenant], counts[vm.Tenant][at])
	}
	return most
}
