// Command demo is "dragnet demo" alone, for 'make demo': it builds in a
// fraction of the time of all of dragnet.
package main

import (
	"os"

	"dragnet/internal/cli"
	"dragnet/lab/incident/play"
)

func main() { os.Exit(cli.Main(play.Command())) }
