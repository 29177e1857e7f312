package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"dragnet/contain/guard"
	"dragnet/contain/reset"
	"dragnet/contain/ripcord"
	"dragnet/internal/cli"
	"dragnet/internal/doctor"
	"dragnet/source/sensor"
	"dragnet/trace/daemon"
	"dragnet/trace/token"
	"dragnet/trace/walk"
	"dragnet/trap"
)

// checkResult is one line of doctor's output.
type checkResult struct {
	Check  string `json:"check"`
	Result string `json:"result"` // ok, limited or broken
	Detail string `json:"detail"`
}

// examinedRole is a role that doctor checks by the configuration files of a flag.
type examinedRole struct {
	name, usage string
	examine     func(files []string) ([]doctor.Check, error)
}

var examinedRoles = []examinedRole{
	{"guard", "check the role guard, with this configuration file; repeat to layer", func(files []string) ([]doctor.Check, error) {
		c, err := loadGuard(files)
		if err != nil {
			return nil, err
		}
		return guard.Examine(c, time.Now()), nil
	}},
	{"ripcord", "check the role ripcord, with this configuration file; repeat to layer", func(files []string) ([]doctor.Check, error) {
		c, err := ripcord.LoadConfiguration(files...)
		if err != nil {
			return nil, err
		}
		return ripcord.Examine(&c), nil
	}},
	{"sensor", "check the role sensor, with this configuration file; repeat to layer", func(files []string) ([]doctor.Check, error) {
		c, err := loadSensor(files)
		if err != nil {
			return nil, err
		}
		return append(sensor.Examine(c, time.Now()), examineReset(c)...), nil
	}},
	{"trap", "check the isolation of a trap's honeypots, with this configuration file; repeat to layer", func(files []string) ([]doctor.Check, error) {
		c, err := trap.LoadConfiguration(files...)
		if err != nil {
			return nil, err
		}
		return trap.Examine(c), nil
	}},
}

// examineReset checks that a sensor that may reset connections can.
func examineReset(c sensor.Configuration) []doctor.Check {
	if !c.Payload.Reset {
		return nil
	}
	socket, err := reset.Open()
	if err == nil {
		err = socket.Close()
	}
	return []doctor.Check{{Name: "resets", Err: err, Fatal: true, Good: "can be sent"}}
}

func newDoctor() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what a role needs on this machine, and suggest fixes",
		Long: `Doctor checks what the role ident needs on this machine, or with --guard, --ripcord
or --sensor what that role needs with that configuration: privileges, interfaces,
the kernel, enrolment. With --trap it checks what keeps a trap's honeypots apart from
others, as far as this machine can know: whether a honeypot has another network card
it cannot.

A check is ok, limited (the detail says what is lost), or broken: then the role
cannot start or not do what it is for, and the exit code is 3. Run it as the user
that the role runs as: to root every capability looks present.`,
		Example: `  dragnet-agent doctor
  dragnet-agent doctor --guard /etc/dragnet/site.yaml --guard /etc/dragnet/guard.yaml
  dragnet-agent doctor --sensor /etc/dragnet/sensor.yaml -o json`,
		Args: cobra.NoArgs,
	}
	load := identFlags(cmd)
	files := make([][]string, len(examinedRoles))
	for i, r := range examinedRoles {
		cmd.Flags().StringArrayVar(&files[i], r.name, nil, r.usage)
	}
	format := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		results, err := examineRole(load, files)
		if err != nil {
			return err
		}
		rows := cli.Rows[checkResult]{Header: []string{"check", "result", "detail"}}
		broken := 0
		for _, r := range results {
			if r.Result == "broken" {
				broken++
			}
			rows.Items = append(rows.Items, r)
			rows.Cells = append(rows.Cells, []string{r.Check, r.Result, r.Detail})
		}
		if err := cli.WriteRows(cmd.OutOrStdout(), *format, rows); err != nil {
			return err
		}
		if broken > 0 {
			return cli.Found(fmt.Errorf("%d of %d checks failed", broken, len(results)))
		}
		return nil
	}
	return cmd
}

// examineRole checks the one role that files are named for; without, ident.
func examineRole(load func() (daemon.Configuration, error), files [][]string) ([]checkResult, error) {
	named := -1
	for i := range files {
		if len(files[i]) == 0 {
			continue
		}
		if named >= 0 {
			return nil, cli.Usage(fmt.Errorf("--%s and --%s cannot be combined", examinedRoles[named].name, examinedRoles[i].name))
		}
		named = i
	}
	if named < 0 {
		config, err := load()
		if err != nil {
			return nil, err
		}
		return examineIdent(config), nil
	}
	checks, err := examinedRoles[named].examine(files[named])
	var all []checkResult
	for _, c := range checks {
		all = append(all, makeResult(c))
	}
	return all, err
}

func makeResult(c doctor.Check) checkResult {
	switch {
	case c.Err == nil:
		return checkResult{c.Name, "ok", c.Good}
	case c.Fatal:
		return checkResult{c.Name, "broken", c.Err.Error()}
	}
	return checkResult{c.Name, "limited", c.Err.Error()}
}

func examineIdent(config daemon.Configuration) []checkResult {
	var out []checkResult
	add := func(check string, err error, fatal bool, good string) {
		out = append(out, makeResult(doctor.Check{Name: check, Err: err, Fatal: fatal, Good: good}))
	}
	key, err := token.LoadKey(daemon.KeyFile(config.State))
	if err != nil {
		add("host key", err, true, "")
	} else {
		add("host key", nil, true, "give this to investigators: "+token.FormatKey(publicOf(key)))
		r, err := token.Verify(daemon.RecordsDir(config.State), publicOf(key))
		if err == nil && len(r.Problems) > 0 {
			err = fmt.Errorf("%d problems; see 'dragnet-agent token verify'", len(r.Problems))
		}
		if r.Records == 0 {
			err = nil // no daemon has run yet
		}
		add("records", err, true, fmt.Sprintf("%d records", r.Records))
	}
	add("processes", checkProcesses(), false, "those of other users can be read")
	if f, err := walk.New(config.Walk); err != nil {
		add("look-ups", err, true, "")
	} else {
		add("look-ups", f.Limits(), false, "eBPF pass, directions recorded")
		f.Close()
	}
	for _, address := range config.Listen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			add("port "+address, fmt.Errorf("%w (a running daemon is fine)", err), false, "")
			continue
		}
		add("port "+address, l.Close(), true, "free")
	}
	if len(config.Askers) == 0 {
		add("askers", errors.New("no asker may request SV or recursion, so chains end here: list askers under 'askers' in the configuration"), false, "")
	} else {
		add("askers", nil, false, fmt.Sprintf("%d networks", len(config.Askers)))
	}
	return out
}

// checkProcesses reports that this user may not read the processes of others.
func checkProcesses() error {
	var missing []string
	for _, c := range []struct {
		number int
		name   string
	}{{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"}, {unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"}} {
		switch has, err := doctor.HasCapability(c.number); {
		case err != nil:
			return err
		case !has:
			missing = append(missing, c.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("without %s only this user's own processes can be read, so connections of others have no owner", strings.Join(missing, " and "))
}
