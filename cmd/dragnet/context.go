package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/internal/durable"
	"dragnet/wire/channel"
	"dragnet/wire/identity"
)

// contextVariable names the environment variable that chooses a context.
const contextVariable = "DRAGNET_CONTEXT"

// contextKeys are the values that a context may have, by their flags.
var contextKeys = []struct{ name, usage string }{
	{"node", "address of a running node: unix:///PATH or https://HOST:PORT"},
	{"data", "data directory, for verbs that can do without a node"},
	{"clearinghouse", "address of the clearinghouse, such as https://203.0.113.1:8443"},
	{"server", "public key of the clearinghouse's server"},
	{"key", "file of our private key, to ask and to report with"},
	{"book", "file of the witnesses we know"},
}

// contextFile holds the named contexts of a user, and the one in use.
type contextFile struct {
	Version  int                          `json:"version"`
	Use      string                       `json:"use"`
	Contexts map[string]map[string]string `json:"contexts"` // values by contextKeys
}

// current is the name of the context in use; empty for none.
func (c *contextFile) current() string { return cmp.Or(os.Getenv(contextVariable), c.Use) }

func contextPath() (string, error) {
	folder, err := os.UserConfigDir()
	if err != nil {
		return "", cli.Hint(err, "set HOME, or XDG_CONFIG_HOME")
	}
	return filepath.Join(folder, "dragnet", "contexts.json"), nil
}

// readContexts returns an empty file if there is none.
func readContexts() (c contextFile, err error) {
	c = contextFile{Version: 1, Contexts: map[string]map[string]string{}}
	path, err := contextPath()
	if err != nil {
		return c, err
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, nil
	case err != nil:
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, cli.Hint(fmt.Errorf("%s cannot be read: it is not what 'dragnet context set' writes", path), "repair it, or remove it and set the contexts again")
	}
	if c.Version != 1 {
		return c, cli.Hint(fmt.Errorf("%s has version %d", path, c.Version), "it was written by a newer dragnet; use that")
	}
	return c, nil
}

func (c *contextFile) save() error {
	path, err := contextPath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(text, '\n'), 0o600)
}

// named returns a context that must exist.
func (c *contextFile) named(name string) (map[string]string, error) {
	values, ok := c.Contexts[name]
	if !ok {
		return nil, cli.Hint(cli.Usage(fmt.Errorf("there is no context %q", name)), "'dragnet context list' shows those there are, 'dragnet context set' makes one")
	}
	return values, nil
}

// contextAnnotation marks flags whose value a context may give.
const contextAnnotation = "dragnet_context"

// fromContext has the current context give a flag's value where the command line does
// not.
func fromContext(cmd *cobra.Command, flag string) {
	if err := cmd.Flags().SetAnnotation(flag, contextAnnotation, nil); err != nil {
		panic(err) // no such flag
	}
}

// applyContext sets the flags of cmd that were not given and that the current context has
// values for. What names a place is left alone if the command line or the environment
// names one.
func applyContext(cmd *cobra.Command) error {
	flags := cmd.Flags()
	placed := flags.Changed("node") || flags.Changed("data") || os.Getenv(nodeVariable) != ""
	var open []string
	for _, k := range contextKeys {
		f := flags.Lookup(k.name)
		if f == nil || f.Changed || placed && (k.name == "node" || k.name == "data") {
			continue
		}
		if _, marked := f.Annotations[contextAnnotation]; marked {
			open = append(open, k.name)
		}
	}
	if len(open) == 0 {
		return nil
	}
	all, err := readContexts()
	if err != nil {
		return err
	}
	name := all.current()
	if name == "" {
		return nil
	}
	values, err := all.named(name)
	if err != nil {
		return err
	}
	for _, flag := range open {
		if values[flag] == "" {
			continue
		}
		if err := flags.Set(flag, values[flag]); err != nil {
			return fmt.Errorf("context %s: --%s: %w", name, flag, err)
		}
	}
	return nil
}

func newContext() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "context",
		Short: "Keep which node, clearinghouse and keys to use under a name",
		Long: `A context is a name for a place to work at: a node or a data directory, a
clearinghouse with its key, our own key and the book of witnesses. The one in use
gives the flags --node, --data, --clearinghouse, --server, --key and --book their
values in all verbs that have them. A flag on the command line comes first, then
$DRAGNET_NODE for the place, then $DRAGNET_CONTEXT, which names another context.`,
		Args: cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newContextSet(), newContextUse(), newContextList(), newContextRemove())
	return cmd
}

var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func newContextSet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Make a context, or change values of one",
		Long: `Set makes a context of the flags given, or changes these values of one that exists;
an empty value removes it. The first context that is made is in use from then on.
Keys are not copied: the context holds where their files are.`,
		Example: `  dragnet context set office --node https://node.example.org:9121
  dragnet context set office --clearinghouse https://203.0.113.1:8443 --server KEY --key member.key`,
		Args: cobra.ExactArgs(1),
	}
	given := map[string]*string{}
	for _, k := range contextKeys {
		given[k.name] = cmd.Flags().String(k.name, "", k.usage)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !contextName.MatchString(args[0]) {
			return cli.Usage(fmt.Errorf("%.80q cannot be the name of a context; want letters, digits, '.', '_' and '-'", args[0]))
		}
		all, err := readContexts()
		if err != nil {
			return err
		}
		values := maps.Clone(all.Contexts[args[0]])
		if values == nil {
			values = map[string]string{}
		}
		for name, value := range given {
			if !cmd.Flags().Changed(name) {
				continue
			}
			checked, err := checkContextValue(name, *value)
			if err != nil {
				return cli.Usage(fmt.Errorf("--%s: %w", name, err))
			}
			if values[name] = checked; checked == "" {
				delete(values, name)
			}
		}
		switch {
		case len(values) == 0:
			return cli.Usage(errors.New("a context needs at least one value"))
		case values["node"] != "" && values["data"] != "":
			return cli.Usage(errors.New("a context is at a node or at a data directory, not both: --node '' or --data '' removes one"))
		}
		if len(all.Contexts) == 0 {
			all.Use = args[0]
		}
		all.Contexts[args[0]] = values
		return all.save()
	}
	return cmd
}

// checkContextValue returns a value as it is kept: files by their absolute path.
func checkContextValue(name, value string) (string, error) {
	if value == "" {
		return "", nil
	}
	switch name {
	case "node":
		if strings.HasPrefix(value, "unix://") {
			return value, nil
		}
		return value, channel.CheckNode(value)
	case "server":
		_, err := identity.ParsePublic(value)
		return value, err
	case "clearinghouse":
		if !strings.HasPrefix(value, "https://") {
			return "", fmt.Errorf("%.80q: want such as https://203.0.113.1:8443", value)
		}
		return value, nil
	case "data":
		if strings.Contains(value, "://") {
			return value, nil
		}
	}
	return filepath.Abs(value)
}

// completeContexts has shells complete the names of contexts.
func completeContexts(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, err := readContexts()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(all.Contexts)), cobra.ShellCompDirectiveNoFileComp
}

func newContextUse() *cobra.Command {
	none := false
	cmd := &cobra.Command{
		Use:               "use NAME",
		Short:             "Use a context from now on",
		Example:           "  dragnet context use office",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeContexts,
	}
	cmd.Flags().BoolVar(&none, "none", false, "use no context")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if none != (len(args) == 0) {
			return cli.Usage(errors.New("name a context, or give --none"))
		}
		all, err := readContexts()
		if err != nil {
			return err
		}
		all.Use = ""
		if !none {
			if _, err := all.named(args[0]); err != nil {
				return err
			}
			all.Use = args[0]
		}
		return all.save()
	}
	return cmd
}

// listedContext is a row of context list as JSON.
type listedContext struct {
	Name          string `json:"name"`
	InUse         bool   `json:"in_use"`
	Node          string `json:"node,omitempty"`
	Data          string `json:"data,omitempty"`
	Clearinghouse string `json:"clearinghouse,omitempty"`
	Server        string `json:"server,omitempty"`
	Key           string `json:"key,omitempty"`
	Book          string `json:"book,omitempty"`
}

func newContextList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the contexts and mark the one in use",
		Args:  cobra.NoArgs,
	}
	output := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all, err := readContexts()
		if err != nil {
			return err
		}
		use := all.current()
		rows := cli.Rows[listedContext]{Header: []string{"name", "in use", "place", "clearinghouse", "key", "book"}}
		for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
			v := all.Contexts[name]
			l := listedContext{name, name == use, v["node"], v["data"], v["clearinghouse"], v["server"], v["key"], v["book"]}
			used := "-"
			if l.InUse {
				used = "yes"
			}
			rows.Items = append(rows.Items, l)
			rows.Cells = append(rows.Cells, []string{name, used, orDash(l.Node + l.Data), orDash(l.Clearinghouse), orDash(l.Key), orDash(l.Book)})
		}
		if len(rows.Items) == 0 {
			path, err := contextPath()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "no context in %s; 'dragnet context set NAME' makes one\n", path)
		}
		return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
	}
	return cmd
}

func newContextRemove() *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Short:             "Forget a context; the files it names stay",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := readContexts()
			if err != nil {
				return err
			}
			if _, err := all.named(args[0]); err != nil {
				return err
			}
			delete(all.Contexts, args[0])
			if all.Use == args[0] {
				all.Use = ""
			}
			return all.save()
		},
	}
}
