package caddymodule

import (
	"fmt"
	"strings"
	"unicode"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// Exit codes of the commands beside 0 for success.
const (
	exitFailed   = 1 // what was asked for could not be done, or a check failed
	exitNotReady = 2 // status: the instance answers and takes no new sessions
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "icws",
		Usage: "<command>",
		Short: "Looks into the IC WebSocket gateway",
		Long: `
Commands around the IC WebSocket gateway (the icws handler):

  principal  prints the gateway principal that a configuration has
  probe      opens a session with a gateway and explains what works and what does not
  status     shows a running gateway's canisters, hosts and sessions
`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(principalCommand(), probeCommand(), statusCommand())
			// Cobra would answer a mistyped command with the help and success.
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return fmt.Errorf("unknown command %q: there are principal, probe and status, see `caddy icws --help`", args[0])
				}
				return cmd.Help()
			}
		},
	})
}

// printable makes a text that came over the network fit for a terminal, which obeys control characters.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}
