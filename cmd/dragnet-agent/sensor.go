package main

import (
	"cmp"
	"errors"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"dragnet/internal/conf"
	"dragnet/internal/logging"
	"dragnet/internal/run"
	"dragnet/source/sensor"
	"dragnet/wire/channel"
)

// defaultSensor is the default configuration file of the role.
const defaultSensor = "/etc/dragnet/sensor.yaml"

func newRunSensor() *cobra.Command {
	var files []string
	var dev string
	cmd := &cobra.Command{
		Use:   "sensor",
		Short: "Make flows of the packets on an interface, and send them to the node",
		Long: `Sensor watches an interface, such as a mirror port, makes flows of its packets as
of a capture, and sends them to the node that it is enrolled at. While the node
is away they wait on the disk. A connection that fails is sent when it fails,
five seconds after its SYN or its refusal; others when they end. What the kernel
dropped is counted and sent along: 'dragnet source list' on the node shows it.

It keeps headers only, unless 'payload.match' is set: then it also compares the
payload of connections and datagrams with the signatures that the node's signature
centre offers, and reports what they match, not the payload. With 'payload.reset' it
resets connections that carry what a signature matches, if a decision of the node
says so for that signature; otherwise it changes nothing. It needs CAP_NET_RAW and
no other privilege. SIGHUP reads the files again and applies the log level; the log
names what else has changed and needs a restart. Enrol it first:

  dragnet-agent enrol sensor https://NODE:9121 -

All keys of the configuration: docs/reference/sensor.md.`,
		Example: `  dragnet-agent run sensor --interface eth1
  dragnet-agent run sensor --config /etc/dragnet/sensor.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			load := func() (sensor.Configuration, error) {
				c, err := loadSensor(files)
				c.Live.Interface = cmp.Or(dev, c.Live.Interface)
				return c, err
			}
			c, err := load()
			if err != nil {
				return err
			}
			return runSensor(cmd, c, load)
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "configuration file; repeat to layer (default "+defaultSensor+", if it exists)")
	cmd.Flags().StringVar(&dev, "interface", "", "interface to watch (overrides the configuration)")
	return cmd
}

// loadSensor reads configuration files; without any, the default one if it
// exists.
func loadSensor(files []string) (sensor.Configuration, error) {
	c := sensor.DefaultConfiguration()
	if len(files) > 0 {
		err := conf.Load(&c, files...)
		return c, err
	}
	if err := conf.Load(&c, defaultSensor); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	return c, nil
}

func runSensor(cmd *cobra.Command, c sensor.Configuration, load func() (sensor.Configuration, error)) error {
	p := newProgram(cmd, c.Logging)
	log := logging.Component(p.Log, "sensor")
	admins, err := newAdmin(c.Admin, p)
	if err != nil {
		return err
	}
	payload := newPayloadPart(c.Payload, c.IgnoreChecksums, log)
	deps := channel.Dependencies{Log: logging.Component(p.Log, "channel"), Admin: admins, Role: "sensor", Release: p.Release}
	if c.Payload.Match {
		deps.Apply = payload.apply
	}
	node, err := channel.New(c.Channel, deps)
	if err != nil {
		return err
	}
	role, err := sensor.New(c, sensor.Dependencies{Out: node, Log: log, Admin: admins, Inspector: func() sensor.Inspector { return payload.newInspector() }})
	if err != nil {
		return err
	}
	parts := run.Parts{
		hinted{payload, "resetting connections needs CAP_NET_RAW"},
		hinted{node, "enrol the sensor first: dragnet-agent enrol sensor https://NODE:9121 -"},
		hinted{role, "the role needs CAP_NET_RAW"},
		admins,
	}
	return run.UntilDone(cmd.Context(), &reloadable[sensor.Configuration]{
		Parts: parts, program: p, started: c, load: load,
		logging: func(c *sensor.Configuration) *logging.Configuration { return &c.Logging },
	}, 20*time.Second, p.Log)
}
