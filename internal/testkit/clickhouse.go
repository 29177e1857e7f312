package testkit

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ClickHouse is a clickhouse-server that a test runs, on loopback and in a
// temporary folder.
type ClickHouse struct {
	t    testing.TB
	exe  string
	dir  string
	port int

	mu  sync.Mutex // guards cmd: a fault may come from a timer
	cmd *exec.Cmd
}

// The names of the elements are those of Debian's version; later ones accept
// them.
const clickHouseConfig = `<yandex>
<logger><level>warning</level><log>%[1]s/log</log><errorlog>%[1]s/errors</errorlog></logger>
<tcp_port>%[2]d</tcp_port><listen_host>127.0.0.1</listen_host>
<path>%[1]s/data/</path><tmp_path>%[1]s/tmp/</tmp_path>
<users_config>%[1]s/users.xml</users_config><default_profile>default</default_profile><default_database>default</default_database>
<mark_cache_size>16777216</mark_cache_size>
</yandex>`

const clickHouseUsers = `<yandex><profiles><default><max_threads>2</max_threads></default></profiles><quotas><default></default></quotas>
<users><default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users></yandex>`

// StartClickHouse starts a server that ends with the test.
func StartClickHouse(t testing.TB) *ClickHouse {
	t.Helper()
	c := &ClickHouse{t: t, exe: "/usr/sbin/clickhouse-server", dir: t.TempDir()}
	if _, err := os.Stat(c.exe); err != nil {
		c.exe = Tool(t, "clickhouse-server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"config.xml": fmt.Sprintf(clickHouseConfig, c.dir, c.port), "users.xml": clickHouseUsers} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.Start()
	t.Cleanup(c.Kill)
	return c
}

// Address returns the address of a database on the server.
func (c *ClickHouse) Address(database string) string {
	return fmt.Sprintf("clickhouse://default@127.0.0.1:%d/%s", c.port, database)
}

// Start starts the server, again after Kill, and waits until it listens.
func (c *ClickHouse) Start() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cmd = exec.Command(c.exe, "--config-file="+filepath.Join(c.dir, "config.xml"))
	c.cmd.Dir = c.dir
	// It must not outlive a test binary that is killed.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	const patience = time.Minute
	for start := time.Now(); time.Since(start) < patience; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", c.port))
		if err == nil {
			conn.Close()
			return
		}
	}
	log, _ := os.ReadFile(filepath.Join(c.dir, "errors"))
	c.t.Fatalf("clickhouse-server does not listen after %v:\n%s", patience, log)
}

// Kill ends the server at once, as a fault would.
func (c *ClickHouse) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		c.cmd = nil
	}
}

// CPU returns the processor time that the server has used, which other programs
// on the machine do not affect.
func (c *ClickHouse) CPU() time.Duration {
	c.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		c.t.Fatal(err)
	}
	// utime and stime are the 12th and 13th after the name (proc(5)), in ticks
	// of 10 ms.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			c.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
