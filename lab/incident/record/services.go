package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"dragnet/internal/netlab"
	"dragnet/lab/incident"
)

// startTime bounds the wait for a server to be ready.
const startTime = 20 * time.Second

// sampleName is the file that the code server and the honest file server
// offer by TFTP. It is text, and nothing runs it.
const sampleName = "setup.dat"

// files are the files of servers and clients, all below one directory.
type files struct {
	dir      string
	sample   []byte
	pages    string // the web servers' documents
	tftp     string // the TFTP servers' files
	sshKey   string // of the SSH clients
	sshdConf string
}

// prepareFiles writes pages, the inert sample, and keys for this recording only.
func prepareFiles(ctx context.Context, dir string) (*files, error) {
	f := &files{
		dir:   dir,
		pages: filepath.Join(dir, "pages"), tftp: filepath.Join(dir, "tftp"),
		sshKey: filepath.Join(dir, "client"), sshdConf: filepath.Join(dir, "sshd.conf"),
		sample: []byte(strings.Repeat("inert sample of the staged incident: text, not a program\n", 60)),
	}
	contents := map[string]string{filepath.Join(f.tftp, sampleName): string(f.sample)}
	for i := range pages {
		contents[filepath.Join(f.pages, pagePath(i))] = "<!doctype html><title>A page</title>\n" +
			strings.Repeat("<p>An ordinary page of an ordinary organisation.</p>\n", 5<<i)
	}
	hostKey, command := filepath.Join(dir, "server"), filepath.Join(dir, "motd")
	contents[command] = strings.Repeat("Welcome to an ordinary server.\n", 20)
	contents[f.sshdConf] = strings.Join([]string{
		"HostKey " + hostKey, "AuthorizedKeysFile " + f.sshKey + ".pub",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "UsePAM no",
		"StrictModes no",              // the keys lie in a directory for temporary files
		"ForceCommand cat " + command, // whatever command a session requests
		"PidFile none",
	}, "\n") + "\n"
	for path, text := range contents {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	for _, key := range []string{hostKey, f.sshKey} {
		out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	return f, nil
}

// server is a program that must be running before the recording starts.
type server struct {
	host    string
	ready   string // what it prints once its sockets are open
	program string
	args    []string
}

// startServers starts every server of the cast and waits until all are ready.
func startServers(ctx context.Context, c participants, net *network, f *files) error {
	servers, err := listServers(c, f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	started := make([]*netlab.Process, len(servers))
	for i, s := range servers {
		if started[i], err = net.hosts[s.host].Start(s.program, s.args...); err != nil {
			return err
		}
	}
	for i, s := range servers {
		if err := started[i].Await(ctx, s.ready); err != nil {
			return err
		}
	}
	return nil
}

func listServers(c participants, f *files) ([]server, error) {
	sshd, err := exec.LookPath("sshd") // sshd requires an absolute path
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // compiled into sshd
		return nil, err
	}
	zones := c.listZones()
	var all []server
	for _, z := range zones {
		web, err := webServer(z.web, f)
		if err != nil {
			return nil, err
		}
		all = append(all, nameServer(z, zones), web,
			server{z.web.name, "listening on", sshd, []string{"-D", "-e", "-f", f.sshdConf}})
	}
	for _, h := range []host{c.codeServer, c.fileServer} {
		all = append(all, server{h.name, "TFTP root is", "dnsmasq",
			append(dnsmasqArgs(), "--port=0", "--enable-tftp", "--tftp-root="+f.tftp)})
	}
	for _, o := range c.organisations {
		for _, h := range o.hosts {
			switch {
			case hasDatabase(h.part):
				all = append(all, server{h.name, "listening on", "socat",
					[]string{"-d", "-d", fmt.Sprintf("TCP4-LISTEN:%d,reuseaddr,fork", incident.ContactPort), "PIPE"}})
			case h.part == incident.OtherPort:
				web, err := webServer(h, f)
				if err != nil {
					return nil, err
				}
				all = append(all, web)
			}
		}
	}
	return all, nil
}

// hasDatabase reports whether hosts of this part run the service on
// tcp/1433; here it returns what it is sent.
func hasDatabase(p incident.Part) bool {
	switch p {
	case incident.Infected, incident.ContactedOnly, incident.FetchedFirst, incident.OtherServer, incident.OtherClient:
		return true
	}
	return false
}

// dnsmasqArgs make dnsmasq independent of the configuration of the machine.
func dnsmasqArgs() []string {
	return []string{"--keep-in-foreground", "--log-facility=-", "--user=root", "--pid-file",
		"--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--no-poll"}
}

// nameServer answers for its own zone and asks the other zones' servers.
func nameServer(own zone, zones []zone) server {
	args := append(dnsmasqArgs(), "--local=/"+own.name+"/",
		"--host-record="+own.webName()+","+own.web.addr.String())
	for _, z := range zones {
		if z.name != own.name {
			args = append(args, "--server=/"+z.name+"/"+z.nameServer.addr.String())
		}
	}
	return server{own.nameServer.name, "started", "dnsmasq", args}
}

func webServer(h host, f *files) (server, error) {
	dir := filepath.Join(f.dir, "nginx-"+h.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return server{}, err
	}
	conf := fmt.Sprintf(`daemon off; master_process off; user root; pid nginx.pid; error_log stderr notice;
events {}
http {
	access_log off; types { text/html html; }
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	server { listen 80; root %s; }
}
`, f.pages)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		return server{}, err
	}
	return server{h.name, "event method", "nginx", []string{"-e", "stderr", "-p", dir, "-c", path}}, nil
}
