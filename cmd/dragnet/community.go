package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dragnet/clearinghouse"
	"dragnet/internal/cli"
	"dragnet/internal/conf"
	"dragnet/internal/durable"
	"dragnet/node"
	"dragnet/node/community"
	"dragnet/wire/identity"
	"dragnet/wire/invitation"
	"dragnet/wire/roster"
)

func newCommunity() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "community",
		Short: "Found a community, invite organisations into it, and join one",
		Long: `A community is a clearinghouse with a relay, and organisations whose keys its roster
lists. One of them founds it ('create') and invites others ('invite'), each of
which joins with the link that it is sent ('join').

Anybody who has a link can ask for membership with it. So no member is admitted before
the operator has typed in a code that the new member reads out, by telephone for
example: it differs if either of them sees another key than the other.`,
		Args: cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newCommunityCreate(), newCommunityInvite(), newCommunityAdmit(), newCommunityJoin(), newCommunityInvitations(), newCommunityBackup(), newCommunityRestore())
	return cmd
}

// memberValid is how long a member's key is valid by default, and rosterValid a roster.
const (
	memberValid = 2 * 365 * 24 * time.Hour
	rosterValid = 30 * 24 * time.Hour
	allRoles    = roster.Ask | roster.Report | roster.Witness
)

// networksFlag adds the flags that describe a member's own node.
func networksFlag(cmd *cobra.Command) (networks, logs *[]string) {
	f := cmd.Flags()
	return f.StringSlice("networks", nil, "networks of your organisation, such as 192.0.2.0/24"),
		f.StringArray("log", nil, "log, capture or folder that the node follows; repeat for each")
}

func parseNetworks(texts []string) (out []netip.Prefix, err error) {
	for _, s := range texts {
		p, err := netip.ParsePrefix(s)
		if err != nil || p != p.Masked() {
			return nil, cli.Usage(fmt.Errorf("--networks %.60q: want a prefix such as 192.0.2.0/24", s))
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, cli.Usage(errors.New("want --networks: a node answers for its own networks"))
	}
	return out, nil
}

func newCommunityCreate() *cobra.Command {
	var url, listen, organisation, as string
	cmd := &cobra.Command{
		Use:   "create NAME --url URL --organisation NAME --networks PREFIX... FOLDER",
		Short: "Found a community and become its first member",
		Long: `Create makes, in a new FOLDER, the keys and the configuration of a clearinghouse with
a relay, and in FOLDER/ORGANISATION those of your own node, which is the first
member. URL is where the others reach the clearinghouse. Start both with the
commands it prints.

FOLDER/signer.key signs who is a member. Its loss is the one that the community
cannot heal, and its theft too: keep a copy, and when all have joined, keep it
off the machine.`,
		Example: "  dragnet community create acme-and-friends --url https://203.0.113.1:8443 --organisation north --networks 192.0.2.0/24 /etc/dragnet/community",
		Args:    cobra.ExactArgs(2),
	}
	networks, logs := networksFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		own, err := parseNetworks(*networks)
		if err != nil {
			return err
		}
		if !invitation.IsName(organisation) {
			return cli.Usage(fmt.Errorf("--organisation %.100q: a name has 1 to 63 lower-case letters, digits and hyphens", organisation))
		}
		numbers, err := parseAS(as)
		if err != nil {
			return err
		}
		f := community.Folder(args[1])
		link, err := f.Found(args[0], url, listen)
		if err != nil {
			return err
		}
		link.Member = organisation
		m := community.MemberFolder(filepath.Join(args[1], organisation))
		key, err := m.OpenKey(&link)
		if err != nil {
			return err
		}
		if err := addMember(cmd.ErrOrStderr(), f, f.SignerKey(), &roster.Member{Name: organisation, Class: "org:" + organisation, Roles: allRoles, AS: numbers}, key.Public()); err != nil {
			return err
		}
		if err := writeMember(m, &link, own, *logs); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), `founded %s; start the clearinghouse and your node:
  dragnet run clearinghouse --config %s
  dragnet run node --config %s --config %s
then invite the others:
  dragnet community invite NAME %s
`, args[0], f.Configuration(), m.Site(), m.Node(), args[1])
		return err
	}
	fl := cmd.Flags()
	fl.StringVar(&url, "url", "", "where the others reach the clearinghouse, such as https://203.0.113.1:8443")
	fl.StringVar(&listen, "listen", "", "address to listen on, if it is not that of the URL")
	fl.StringVar(&organisation, "organisation", "", "name of your own organisation")
	fl.StringVar(&as, "as", "", "your autonomous systems, such as 64496,64497")
	return cmd
}

// writeMember writes the configuration of a member's node, and checks it as the node
// would.
func writeMember(m community.MemberFolder, l *invitation.Link, networks []netip.Prefix, logs []string) error {
	if err := m.WriteFiles(l, networks, logs); err != nil {
		return err
	}
	c, err := conf.LoadOver(node.DefaultConfiguration(), m.Site(), m.Node())
	if err == nil {
		err = c.Validate()
	}
	return err
}

func parseAS(text string) (out []uint32, err error) {
	for _, s := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		n, err := strconv.ParseUint(strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(s)), "AS"), 10, 32)
		if err != nil {
			return nil, cli.Usage(fmt.Errorf("AS number %.40q: want such as 64496", s))
		}
		out = append(out, uint32(n))
	}
	return slices.Compact(slices.Sorted(slices.Values(out))), nil
}

// addMember writes a member down and signs the roster again.
func addMember(w io.Writer, f community.Folder, signerKey string, m *roster.Member, key identity.Public) error {
	// Two programs may admit at once: the second goes on from what the first signed.
	lock, err := os.Open(string(f))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", f, err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	m.Keys = []roster.MemberKey{{Public: key, From: now.Add(-time.Hour), Until: now.Add(memberValid)}}
	before, err := os.ReadFile(f.Members())
	if err != nil {
		return err
	}
	// A run before this one may have been killed after it wrote the member down.
	text := string(before)
	if there, err := roster.HasMember(text, m.Name, key); err != nil {
		return fmt.Errorf("%s: %w", f.Members(), err)
	} else if !there {
		if text, err = roster.AppendMember(text, m); err != nil {
			return fmt.Errorf("%s: %w", f.Members(), err)
		}
	}
	if err := durable.WriteFile(f.Members(), []byte(text), 0o600); err != nil {
		return err
	}
	if err := signRoster(w, f.Members(), signOptions{key: signerKey, bundle: f.Roster(), valid: rosterValid}, time.Now()); err != nil {
		return errors.Join(err, durable.WriteFile(f.Members(), before, 0o600))
	}
	return nil
}

// inviteCommand holds the flags of 'community invite'.
type inviteCommand struct {
	class, as, roles, list string
	valid, wait            time.Duration
	admission              admitFlags
}

func newCommunityInvite() *cobra.Command {
	var c inviteCommand
	cmd := &cobra.Command{
		Use:   "invite (NAME | --list FILE) FOLDER",
		Short: "Print the link with which an organisation joins",
		Long: `Invite prints a link for an organisation. Send it by whatever way is at hand; it
lets its holder ask for membership, once. With --wait it goes on until the
organisation has asked, and admits it as 'community admit' does.

With --list it prints a link for each line of a file: a name, and if you like a
class and AS numbers after it, separated by blanks.`,
		Example: `  dragnet community invite south /etc/dragnet/community --wait 1h
  dragnet community invite --list organisations.txt /etc/dragnet/community > links.txt`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd, args) },
	}
	f := cmd.Flags()
	f.StringVar(&c.class, "class", "", "independence class: members of one class count as one (default org:NAME)")
	f.StringVar(&c.as, "as", "", "its autonomous systems, such as 64496,64497")
	f.StringVar(&c.roles, "roles", allRoles.String(), "what it may do")
	f.StringVar(&c.list, "list", "", "file of organisations, one a line")
	f.DurationVar(&c.valid, "valid", 7*24*time.Hour, "how long the link may be used")
	f.DurationVar(&c.wait, "wait", 0, "wait so long for the organisation to ask, and admit it")
	c.admission.addFlags(cmd)
	return cmd
}

func (c *inviteCommand) run(cmd *cobra.Command, args []string) error {
	if (len(args) == 2) == (c.list != "") {
		return cli.Usage(errors.New("want NAME FOLDER, or --list FILE and FOLDER"))
	}
	if c.list != "" && c.wait > 0 {
		return cli.Usage(errors.New("--wait is for one organisation; 'dragnet community admit --all' admits those of a list"))
	}
	f := community.Folder(args[len(args)-1])
	roles, err := roster.ParseRoles(strings.Split(c.roles, ","))
	if err != nil {
		return cli.Usage(fmt.Errorf("--roles: %w", err))
	}
	lines := []string{strings.Join([]string{args[0], cmp.Or(c.class, "org:"+args[0]), c.as}, " ")}
	if c.list != "" {
		text, err := os.ReadFile(c.list)
		if err != nil {
			return err
		}
		lines = strings.Split(string(text), "\n")
	}
	return withCommunity(cmd.Context(), f, func(h *clearinghouse.Core, link invitation.Link) error {
		for n, line := range lines {
			fields := strings.Fields(line)
			if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
				continue
			}
			i := clearinghouse.Invitation{Member: fields[0], Class: "org:" + fields[0], Roles: roles, Expires: time.Now().Add(c.valid)}
			if len(fields) > 1 {
				i.Class = fields[1]
			}
			var err error
			if i.AS, err = parseAS(strings.Join(fields[min(2, len(fields)):], ",")); err != nil {
				return err
			}
			if !invitation.IsName(i.Member) {
				return cli.Usage(fmt.Errorf("line %d: %.100q: a name has 1 to 63 lower-case letters, digits and hyphens", n+1, i.Member))
			}
			link.Member = i.Member
			if link.Secret, err = h.Invite(cmd.Context(), i); err != nil {
				return err
			}
			if c.list != "" {
				fmt.Fprint(cmd.OutOrStdout(), i.Member, " ")
			}
			fmt.Fprintln(cmd.OutOrStdout(), &link)
		}
		if c.wait > 0 {
			return c.admission.await(cmd, h, f, link, c.wait)
		}
		return nil
	})
}

// withCommunity runs work on the tables of a community's clearinghouse, which may be
// running.
func withCommunity(ctx context.Context, f community.Folder, work func(*clearinghouse.Core, invitation.Link) error) error {
	link, err := f.Link()
	if err != nil {
		return cli.Hint(err, "name the folder that 'dragnet community create' made")
	}
	return withCore(ctx, []string{f.Configuration()}, func(h *clearinghouse.Core) error { return work(h, link) })
}

// admitFlags say how the code of a new member is had.
type admitFlags struct {
	code, signer string
	yes          bool
	typed        *bufio.Reader // codes, one a line
}

func (a *admitFlags) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.code, "code", "", "the code that the new member read to you; without it you are asked")
	f.StringVar(&a.signer, "signer-key", "", "private key that signs the roster (default FOLDER/signer.key)")
	f.BoolVar(&a.yes, "yes", false, "compare no code: who had the link first is admitted")
}

func newCommunityAdmit() *cobra.Command {
	var a admitFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "admit (NAME | --all) FOLDER",
		Short: "Admit an organisation that asked, after comparing a code",
		Long: `Admit compares the code that a new member reads to you with the one that follows
from the key that the clearinghouse was shown. If they agree it adds the member to
FOLDER/members.yaml and signs the roster; the running clearinghouse takes it over
within seconds. If they do not, one was mistyped or somebody else used the link: the
invitation is withdrawn, and a new one is needed.`,
		Example: "  dragnet community admit south /etc/dragnet/community --code k3xq-vd2a-9fpm-7tth-w2ea",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 2) == all || all && a.code != "" {
				return cli.Usage(errors.New("want NAME FOLDER, or --all and FOLDER"))
			}
			f := community.Folder(args[len(args)-1])
			return withCommunity(cmd.Context(), f, func(h *clearinghouse.Core, link invitation.Link) error {
				waiting, err := waitingFor(cmd.Context(), h, func(name string) bool { return all || name == args[0] })
				if err != nil {
					return err
				}
				if len(waiting) == 0 {
					return cli.Hint(errors.New("no organisation of this name waits to be admitted"), "see 'dragnet community invitations'")
				}
				for i := range waiting {
					if err := a.admit(cmd, h, f, link, &waiting[i]); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all organisations that asked, one after the other")
	a.addFlags(cmd)
	return cmd
}

func waitingFor(ctx context.Context, h *clearinghouse.Core, wanted func(string) bool) (out []clearinghouse.Invitation, err error) {
	every, err := h.Invitations(ctx)
	for _, i := range every {
		if i.State == clearinghouse.InvitationWaiting && wanted(i.Member) {
			out = append(out, i)
		}
	}
	return out, err
}

// await waits until the invited organisation asks.
func (a *admitFlags) await(cmd *cobra.Command, h *clearinghouse.Core, f community.Folder, link invitation.Link, wait time.Duration) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "waiting for %s to join\n", link.Member)
	for over := time.Now().Add(wait); time.Now().Before(over); {
		waiting, err := waitingFor(cmd.Context(), h, func(name string) bool { return name == link.Member })
		if err != nil {
			return err
		}
		if len(waiting) > 0 {
			return a.admit(cmd, h, f, link, &waiting[0])
		}
		select {
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		case <-time.After(time.Second):
		}
	}
	return cli.Hint(fmt.Errorf("%s did not join within %v", link.Member, wait), "the link goes on to hold; 'dragnet community admit' admits it later")
}

// errCode says that the codes differ.
var errCode = errors.New("the codes differ: one was mistyped, somebody else used the link, or the link was changed on its way")

func (a *admitFlags) admit(cmd *cobra.Command, h *clearinghouse.Core, f community.Folder, link invitation.Link, i *clearinghouse.Invitation) error {
	link.Member = i.Member
	w := cmd.ErrOrStderr()
	if i.Others > 0 {
		fmt.Fprintf(w, "warning: %d requests with the link of %s came under other keys and were refused; more than one has the link\n", i.Others, i.Member)
	}
	if !a.yes {
		code := a.code
		if code == "" {
			fmt.Fprintf(w, "%s asks to join. Type the code that it reads to you: ", i.Member)
			if a.typed == nil {
				a.typed = bufio.NewReader(cmd.InOrStdin())
			}
			line, err := a.typed.ReadString('\n')
			if err != nil && (!errors.Is(err, io.EOF) || line == "") {
				return fmt.Errorf("no code was given: %w", err)
			}
			code = line
		}
		if normalizeCode(code) != normalizeCode(invitation.Code(&link, i.Public)) {
			if err := h.Settle(cmd.Context(), i.Member, i.Public, clearinghouse.InvitationWithdrawn); err != nil {
				return errors.Join(errCode, fmt.Errorf("the invitation could not be withdrawn: %w", err))
			}
			return cli.Hint(errCode, "the invitation is withdrawn; 'dragnet community invite %s' makes a new link", i.Member)
		}
	} else {
		fmt.Fprintf(w, "warning: the code of %s was not compared; if its link was stolen, a thief is a member now\n", i.Member)
	}
	m := &roster.Member{Name: i.Member, Class: i.Class, Roles: i.Roles, AS: i.AS}
	if err := addMember(w, f, cmp.Or(a.signer, f.SignerKey()), m, i.Public); err != nil {
		return err
	}
	if err := h.Settle(cmd.Context(), i.Member, i.Public, clearinghouse.InvitationAdmitted); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "admitted %s (%s)\n", i.Member, i.Class)
	return err
}

// normalizeCode leaves out what people write between letters.
func normalizeCode(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(s))
}

func newCommunityInvitations() *cobra.Command {
	var output *cli.Format
	cmd := &cobra.Command{
		Use:     "invitations FOLDER",
		Short:   "List invitations and what became of them, the oldest first",
		Example: "  dragnet community invitations /etc/dragnet/community",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withCommunity(cmd.Context(), community.Folder(args[0]), func(h *clearinghouse.Core, _ invitation.Link) error {
				all, err := h.Invitations(cmd.Context())
				if err != nil {
					return err
				}
				rows := cli.Rows[invitedMember]{Header: []string{"member", "class", "roles", "until", "state", "refused keys"}}
				for _, i := range all {
					rows.Items = append(rows.Items, invitedMember{i.Member, i.Class, i.Roles.String(), i.Expires, string(i.State), i.Others})
					rows.Cells = append(rows.Cells, []string{i.Member, i.Class, i.Roles.String(), i.Expires.Format(time.RFC3339), string(i.State), strconv.Itoa(i.Others)})
				}
				return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
			})
		},
	}
	output = cli.OutputFlag(cmd)
	return cmd
}

// invitedMember is a row of community invitations as JSON.
type invitedMember struct {
	Member  string    `json:"member"`
	Class   string    `json:"class"`
	Roles   string    `json:"roles"`
	Until   time.Time `json:"until"`
	State   string    `json:"state"`
	Refused int       `json:"refused_keys"`
}
