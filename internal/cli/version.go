package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Release is the version both binaries report and CHANGELOG.md describes.
const Release = "0.1.0-dev"

// commit is set by the linker (see Makefile); empty in a plain go build.
var commit string

// Version is what "version -o json" prints.
type Version struct {
	// Version of this document; fields are added, never changed.
	Version int `json:"version"`
	// Release is the semantic version of the program.
	Release string `json:"release"`
	// Commit is the source revision, with "-dirty" for a changed tree, or
	// "unknown".
	Commit string `json:"commit"`
	// Go is the toolchain that built the program.
	Go string `json:"go"`
	// Platform is operating system and architecture, as linux/amd64.
	Platform string `json:"platform"`
	// EBPF are the eBPF objects inside the program.
	EBPF []Object `json:"ebpf,omitempty"`
}

// Object is an eBPF object that a program carries.
type Object struct {
	Name string `json:"name"`
	// Hash is over the object's bytes, in hex.
	Hash string `json:"hash"`
}

// BuildVersion describes the running program.
func BuildVersion() Version {
	return Version{
		Version:  1,
		Release:  Release,
		Commit:   findRevision(),
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// String is the version in one line.
func (v Version) String() string {
	return fmt.Sprintf("%s (commit %s, %s, %s)", v.Release, v.Commit, v.Go, v.Platform)
}

// findRevision prefers the linker's value to that of go build, which is missing if
// version control stamping is off.
func findRevision() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

// NewVersion returns the command "version" of a program with these eBPF objects.
func NewVersion(objects ...Object) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print release, commit, Go version and platform",
		Args:  cobra.NoArgs,
	}
	format := OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := BuildVersion()
		v.EBPF = objects
		if *format == Table {
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", cmd.Root().Name(), v)
			for _, o := range objects {
				fmt.Fprintf(cmd.OutOrStdout(), "ebpf %s %s\n", o.Name, o.Hash)
			}
			return nil
		}
		return WriteRows(cmd.OutOrStdout(), *format, Rows[Version]{
			Items:    []Version{v},
			Document: v,
		})
	}
	return cmd
}
