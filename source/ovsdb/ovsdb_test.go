package ovsdb

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"dragnet/internal/testkit"
)

// serve starts an OVSDB server of Open vSwitch with a schema.
func serve(t *testing.T, schema string) (address string) {
	t.Helper()
	tool, server := testkit.Tool(t, "ovsdb-tool"), testkit.Tool(t, "ovsdb-server")
	dir, err := os.MkdirTemp("", "ovsdb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if out, err := exec.Command(tool, "create", filepath.Join(dir, "db"), schema).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(server, filepath.Join(dir, "db"), "--remote=punix:"+socket, "--unixctl="+filepath.Join(dir, "ctl"), "--no-chdir")
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+dir, "OVS_LOGDIR="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 1000 {
		if _, err := os.Stat(socket); err == nil {
			return "unix:" + socket
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the server does not listen")
	return ""
}

func TestPortsOfOpenVSwitch(t *testing.T) {
	vsctl := testkit.Tool(t, "ovs-vsctl")
	db := serve(t, "/usr/share/openvswitch/vswitch.ovsschema")
	for _, args := range [][]string{
		{"init"}, {"add-br", "br-int"}, {"add-br", "br-ex"}, {"add-port", "br-int", "tap1"}, {"add-port", "br-int", "tap2"}, {"add-port", "br-ex", "eth0"},
		{"set", "Interface", "tap1", `external_ids={iface-id=p1,attached-mac="fa:16:3e:00:00:01",vm-uuid=vm1,iface-status=active}`},
		{"set", "Interface", "tap2", `external_ids={iface-id=p2,attached_mac="fa:16:3e:00:00:02",ip_addresses="10.0.0.2/24,fd00::2/64",tenant=blue}`},
	} {
		if out, err := exec.Command(vsctl, append([]string{"--db=" + db, "--no-wait"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	got, err := Ports(t.Context(), db)
	want := []Port{
		{Bridge: "br-int", Interface: "tap1", ID: "p1", Machine: "vm1", MAC: "fa:16:3e:00:00:01"},
		{Bridge: "br-int", Interface: "tap2", ID: "p2", MAC: "fa:16:3e:00:00:02", Tenant: "blue", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("ports %+v, %v\nwant %+v", got, err, want)
	}
	if _, err := LogicalPorts(t.Context(), db); err == nil || !strings.Contains(err.Error(), "OVN_Northbound") {
		t.Errorf("a database that is not there: %v", err)
	}
	logical := []Port{{ID: "p1", Tenant: "red", Machine: "other", Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}, {ID: "p9"}}
	merged := Merge(got, logical)
	want[0].Tenant, want[0].Name, want[0].Addresses = "red", "web", logical[0].Addresses
	if !reflect.DeepEqual(merged, want) {
		t.Errorf("merged %+v\nwant %+v", merged, want)
	}
}

// What Neutron writes to OVN's northbound database.
const northbound = `[{"rows":[
 {"name":"b5a1","type":"","addresses":"fa:16:3e:aa:00:01 10.0.0.3 fd00::3","external_ids":["map",[["neutron:device_id","vm7"],["neutron:project_id","red"],["neutron:port_name","web"],["neutron:cidrs","10.0.0.3/24 fd00::3/64"]]]},
 {"name":"c6b2","type":"router","addresses":"router","external_ids":["map",[]]},
 {"name":"d7c3","type":"","addresses":["set",["fa:16:3e:aa:00:02 10.0.0.4","unknown"]],"external_ids":["map",[["neutron:project_id","blue"]]]}]}]`

func TestLogicalPorts(t *testing.T) {
	tables, err := parseRows(json.RawMessage(northbound), 1)
	if err != nil {
		t.Fatal(err)
	}
	got := logicalPortsOf(tables[0])
	want := []Port{
		{ID: "b5a1", Machine: "vm7", Tenant: "red", Name: "web", MAC: "fa:16:3e:aa:00:01", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("fd00::3")}},
		{ID: "d7c3", Tenant: "blue", MAC: "fa:16:3e:aa:00:02", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.4")}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// A server that echoes first, one that refuses, one that sends other things, and
// one that says nothing.
func TestServersThatMisbehave(t *testing.T) {
	for _, c := range []struct{ answer, problem string }{
		{`{"method":"echo","params":[],"id":"echo"}{"method":"update","params":[],"id":null}{"id":1,"error":null,"result":[{"rows":[]}]}`, ""},
		{`{"id":1,"error":{"error":"unknown database"},"result":null}`, "unknown database"},
		{`{"id":1,"error":null,"result":[{"error":"constraint violation","details":"x"},null]}`, "constraint violation: x"},
		{`{"id":1,"error":null,"result":[]}`, "0 results of 1"},
		{`{"id":1,"error":null,"result":{"rows":7}}`, "not a reply"},
		{`SSH-2.0-OpenSSH`, "not a reply"},
		{``, "not a reply"},
	} {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = conn.Write([]byte(c.answer))
			_, _ = io.Copy(io.Discard, conn) // until the client is satisfied or gives up
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err = LogicalPorts(ctx, "unix:"+l.Addr().String())
		if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%q: %v", c.answer, err)
		}
	}
	for _, address := range []string{"db.sock", "ssl:h:1", "unix:", "unix:/nonexistent"} {
		if _, err := Ports(t.Context(), address); err == nil || !strings.Contains(err.Error(), "database") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// FuzzRows reads any result as rows of both databases.
func FuzzRows(f *testing.F) {
	f.Add([]byte(northbound))
	f.Add([]byte(`[{"rows":[{"name":"br","ports":["set",[["uuid","a"],["uuid","b"]]]},{"_uuid":["uuid","a"],"interfaces":["uuid","c"]},{"_uuid":["uuid","c"],"name":"tap","ofport":5,"mac_in_use":["set",[]],"external_ids":["map",[["iface-id","x"]]]}]}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tables, err := parseRows(b, 1)
		if err != nil {
			return
		}
		ports := portsOf(tables[0], tables[0], tables[0])
		logical := logicalPortsOf(tables[0])
		if len(ports) > len(tables[0]) || len(logical) > len(tables[0]) || len(Merge(ports, logical)) != len(ports) {
			t.Errorf("%d and %d ports of %d rows", len(ports), len(logical), len(tables[0]))
		}
		for _, p := range ports {
			if p.ID == "" {
				t.Error("a port without an identifier")
			}
		}
	})
}

func TestEchoIsAnswered(t *testing.T) {
	var sent bytes.Buffer
	in := strings.NewReader(`{"method":"echo","params":["a"],"id":"e"} {"id":1,"result":[],"error":null}`)
	if _, err := await(readWriter{in, &sent}); err != nil || sent.String() != `{"result":["a"],"error":null,"id":"e"}` {
		t.Errorf("%v, sent %s", err, sent.String())
	}
}

type readWriter struct {
	*strings.Reader
	w *bytes.Buffer
}

func (rw readWriter) Write(b []byte) (int, error) { return rw.w.Write(b) }
