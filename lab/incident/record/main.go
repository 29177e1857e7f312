// Command record stages an incident among four organisations in network
// namespaces and records the traffic at each organisation's edge. It writes the
// captures and the truth about them in the form that package incident embeds:
//
//	sudo go run ./lab/incident/record OUTDIR
//
// It takes about a minute and needs root and the Debian packages listed in
// lab/PACKAGES; it lists those missing. No traffic leaves the namespaces, and
// they are removed afterwards.
//
// Reading order: cast.go defines the participants, plan.go the acts, network.go
// builds the network, services.go starts the servers, acts.go executes the
// plan, tap.go records.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"dragnet/lab/incident"
)

// programs are the programs the recording runs, with the Debian package of
// each.
var programs = [][2]string{
	{"curl", "curl"}, {"dnsmasq", "dnsmasq-base"}, {"dumpcap", "tshark"}, {"ip", "iproute2"},
	{"nft", "nftables"}, {"nginx", "nginx"}, {"ping", "iputils-ping"}, {"socat", "socat"},
	{"ssh", "openssh-client"}, {"ssh-keygen", "openssh-client"}, {"sshd", "openssh-server"},
}

func main() {
	if len(os.Args) != 2 || strings.HasPrefix(os.Args[1], "-") {
		fmt.Fprintln(os.Stderr, "usage: record OUTDIR")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := recordIncident(ctx, os.Args[1])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

// recordIncident stages the whole incident and leaves its files in outDir.
func recordIncident(ctx context.Context, outDir string) (err error) {
	if err := findPrograms(); err != nil {
		return err
	}
	if err := os.MkdirAll(outDir, 0o755); err != nil {
		return err
	}
	workDir, err := os.MkdirTemp("", "incident-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(workDir)

	c := newParticipants()
	net, err := buildNetwork(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, net.lab.Close()) }()
	files, err := prepareFiles(ctx, workDir)
	if err != nil {
		return err
	}
	if err := startServers(ctx, c, net, files); err != nil {
		return err
	}
	taps, err := openTaps(ctx, c, net, workDir)
	if err != nil {
		return err
	}
	start := time.Now().UTC().Truncate(time.Second)
	slog.Info("recording", "organisations", len(c.organisations), "for", span)
	if err := performActs(ctx, planActs(c), net, files); err != nil {
		return err
	}
	for _, t := range taps {
		if err := t.stopAndPack(filepath.Join(outDir, incident.CaptureFile(t.organisation))); err != nil {
			return err
		}
	}
	return writeTruth(filepath.Join(outDir, incident.TruthFile), c.makeTruth(start))
}

// findPrograms fails with the packages to install.
func findPrograms() error {
	var missing []string
	for _, p := range programs {
		if _, err := exec.LookPath(p[0]); err != nil {
			missing = append(missing, p[1])
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("programs are missing; install the Debian packages: apt-get install %s", strings.Join(missing, " "))
	}
	return nil
}

func writeTruth(path string, truth incident.Truth) error {
	text, err := json.MarshalIndent(truth, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
