package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/internal/durable"
	"dragnet/publish/lapi"
	"dragnet/publish/mirror"
	"dragnet/publish/pointer"
	"dragnet/wire/identity"
)

func newFeed() *cobra.Command {
	cmd := &cobra.Command{Use: "feed", Short: "Check and copy the files that a clearinghouse publishes", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newFeedShow(), newFeedVerify(), newFeedFind(), newFeedSubscribe(), newFeedKey())
	return cmd
}

// publisherFlag is the key that a publication must be signed by.
type publisherFlag struct{ text string }

func (f *publisherFlag) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.text, "publisher", "", "public key of the clearinghouse, such as ed25519:3p7b...")
}

func (f *publisherFlag) key() (identity.Public, error) {
	return parseKeyFlag("publisher", f.text)
}

// folderOf accepts the folder of a tree and that of one publication.
func folderOf(dir string) string {
	if current := filepath.Join(dir, mirror.Current); isFolder(current) {
		return current
	}
	return dir
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func newFeedShow() *cobra.Command {
	var publisher publisherFlag
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "show DIRECTORY",
		Short: "Show which publication a copy holds, and its files",
		Long: `Show prints the files of a copy with their sizes and hashes, once the signature is
right. It does not read the files themselves: that is 'dragnet feed verify'.`,
		Example: "  dragnet feed show /srv/feed --publisher ed25519:3p7b...",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := publisher.key()
			if err != nil {
				return err
			}
			m, err := mirror.Read(folderOf(args[0]), key, time.Now())
			if m == nil {
				return feedError(err)
			}
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", err)
			}
			rows := cli.Rows[mirror.FileHash]{Header: []string{"path", "size", "sha256"}, Document: m}
			for _, f := range m.Files {
				rows.Items = append(rows.Items, f)
				rows.Cells = append(rows.Cells, []string{f.Path, fmt.Sprint(f.Size), f.SHA256})
			}
			if *output == cli.Table {
				fmt.Fprintf(cmd.ErrOrStderr(), "publication %d of %v, valid until %v, root %s\n", m.Head.Number, m.Head.Time, m.Head.Until, m.Head.Root)
			}
			return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
		},
	}
	output = cli.OutputFlag(cmd)
	publisher.register(cmd)
	return cmd
}

// feedError says what to do about a copy that is not believed: exit code 3.
func feedError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mirror.ErrForged):
		return cli.Hint(cli.Found(err), "is --publisher the key that the clearinghouse told you, and not the mirror?")
	case errors.Is(err, mirror.ErrAltered):
		return cli.Hint(cli.Found(err), "copy it again; if that does not help, use another mirror and tell the clearinghouse")
	case errors.Is(err, mirror.ErrStale):
		return cli.Hint(cli.Found(err), "copy from another mirror; what is in this one was right at its time")
	case errors.Is(err, mirror.ErrRolledBack):
		return cli.Hint(cli.Found(err), "the mirror is behind or lies; use another one")
	case errors.Is(err, mirror.ErrForked):
		return cli.Hint(cli.Found(err), "keep both copies: with them, others can see that the clearinghouse's key signed both")
	}
	return err
}

func newFeedVerify() *cobra.Command {
	var publisher publisherFlag
	var seen string
	cmd := &cobra.Command{
		Use:   "verify DIRECTORY",
		Short: "Check a copy of a publication, from any mirror, without a network",
		Long: `Verify checks that every file of a copy is what the clearinghouse signed, that
none is missing or added, and that the copy is not overdue. With --seen it
remembers the publication in a file, and from then on notices an older one, or a
second one under the same number. Exit code 3 means that the copy is not to be
used.`,
		Example: "  rsync -a --delete rsync://mirror.example.org/feed/current/ /srv/feed/\n  dragnet feed verify /srv/feed --publisher ed25519:3p7b... --seen /var/lib/dragnet/feed.seen",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := publisher.key()
			if err != nil {
				return err
			}
			last, err := readSeen(seen)
			if err != nil {
				return err
			}
			m, err := mirror.Verify(folderOf(args[0]), key, time.Now(), last)
			if err != nil {
				return feedError(err)
			}
			if err := writeSeen(seen, &m.Head); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "publication %d of %v is whole and current: %s, %d bytes\n", m.Head.Number, m.Head.Time, cli.Plural(m.Head.Files, "file"), m.Head.Bytes)
			return err
		},
	}
	publisher.register(cmd)
	cmd.Flags().StringVar(&seen, "seen", "", "file that remembers the last publication verified")
	return cmd
}

func readSeen(path string) (*mirror.Head, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var h mirror.Head
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, cli.Hint(fmt.Errorf("%s: %w", path, err), "it is not a file that --seen wrote")
	}
	return &h, nil
}

func writeSeen(path string, h *mirror.Head) error {
	if path == "" {
		return nil
	}
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(data, '\n'), 0o644)
}

func newFeedFind() *cobra.Command {
	var publisher publisherFlag
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "find NODE...",
		Short: "Find the newest publication by a distributed hash table",
		Long: `Find asks a distributed hash table for the item that the clearinghouse puts there
after each publication (publish.pointer): the head of its manifest, and mirrors
that have it. NODE is the address of any node of the table. The item is signed:
nodes can withhold it or answer with an older one, and cannot forge one. Use it
if the mirrors that you know are gone, or to see whether they lag behind.

It sends the table the publisher's key, from this machine's address.`,
		Example: "  dragnet feed find dht.example.org:6881 --publisher ed25519:3p7b...",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := publisher.key()
			if err != nil {
				return err
			}
			found, err := pointer.Find(cmd.Context(), args, key)
			if errors.Is(err, pointer.ErrNotFound) {
				return cli.Hint(err, "is --publisher right? Nodes forget an item two hours after the clearinghouse last put it there")
			} else if err != nil {
				return err
			}
			h := &found.Head
			if *output == cli.Table {
				fmt.Fprintf(cmd.ErrOrStderr(), "publication %d of %v, root %s; %d of %d nodes have this item\n", h.Number, h.Time, h.Root, found.Copies, found.Asked)
			}
			if h.Until < flow.FromTime(time.Now()) {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: the next one is overdue since %v: the clearinghouse has stopped, or the nodes withhold it\n", h.Until)
			}
			rows := cli.Rows[listedMirror]{Header: []string{"mirror"}, Document: found}
			for _, m := range found.Mirrors {
				rows.Items = append(rows.Items, listedMirror{m})
				rows.Cells = append(rows.Cells, []string{m})
			}
			return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
		},
	}
	output = cli.OutputFlag(cmd)
	publisher.register(cmd)
	return cmd
}

// listedMirror is a row of feed mirrors as JSON.
type listedMirror struct {
	Mirror string `json:"mirror"`
}

func newFeedSubscribe() *cobra.Command {
	var publisher publisherFlag
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "subscribe URL DIRECTORY",
		Short: "Copy a publication, and follow it; the copy is a mirror itself",
		Long: `Subscribe copies the publication at URL into a folder and checks it; what has not
changed is not fetched again. URL is that of a mirror, or dht://NODE,NODE: then
the mirrors are those that 'dragnet feed find' prints. DIRECTORY/current is always
the last complete and checked publication: a source that lies or fails leaves it
as it is. With --every it continues until it is stopped.`,
		Example: "  dragnet feed subscribe https://feed.example.org/mirror/ /srv/feed --publisher ed25519:3p7b... --every 15m",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := publisher.key()
			if err != nil {
				return err
			}
			if every != 0 && every < time.Second {
				return cli.Usage(fmt.Errorf("--every %v: want at least 1s", every))
			}
			c := mirror.Copier{URL: args[0], Directory: args[1], Publisher: key}
			for {
				err := copyFeed(cmd, c)
				if every == 0 {
					return feedError(err)
				}
				if err != nil {
					fmt.Fprintln(cmd.ErrOrStderr(), "warning:", err)
				}
				if err := sleep(cmd.Context(), every); err != nil {
					return nil
				}
			}
		},
	}
	publisher.register(cmd)
	cmd.Flags().DurationVar(&every, "every", 0, "continue, and look for a newer publication this often")
	return cmd
}

func copyFeed(cmd *cobra.Command, c mirror.Copier) error {
	done, err := pointer.Copy(cmd.Context(), c)
	if err != nil {
		return err
	}
	h := &done.Manifest.Head
	if done.Unchanged {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "publication %d of %v: nothing new\n", h.Number, h.Time)
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "publication %d of %v: fetched %s of %d, %d bytes\n", h.Number, h.Time, cli.Plural(done.Fetched, "file"), h.Files, done.Bytes)
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func newFeedKey() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "key NAME --file FILE",
		Short: "Make an API key for a bouncer of CrowdSec",
		Long: `Key makes a random key, adds its hash to the file that publish.lapi.keys names,
and prints the key, once: give it to the bouncer as its api_key. A running
clearinghouse accepts it within a second; to take it back, delete its line.`,
		Example: "  dragnet feed key firewall1 --file /etc/dragnet/bouncers",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.ContainsAny(args[0], " \t\n#") || args[0] == "" || file == "" {
				return cli.Usage(errors.New("want a name without spaces, and --file"))
			}
			key := rand.Text()
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(f, lapi.KeyLine(args[0], key))
			if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "file of keys, such as /etc/dragnet/bouncers")
	return cmd
}
