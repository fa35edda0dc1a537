package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

func main() {
	err := run(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "quickstart:", err)
	os.Exit(1)
}

// run starts everything and returns only if that fails: the process ends by a signal, in Caddy's own way.
func run(args []string) (err error) {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	port := flags.Int("port", 8443, "port of loopback that Caddy listens on; 0 finds a free one")
	latency := flags.Duration("latency", 500*time.Millisecond, "time of an update call on the local network")
	interval := flags.Duration("interval", 2*time.Second, "between two messages of the client")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: there are flags only, see -help", flags.Arg(0))
	}
	if *interval <= 0 {
		return fmt.Errorf("-interval %s: must be more than 0", *interval)
	}
	listen, err := claimPort(*port)
	if err != nil {
		return err
	}

	dir, err := os.MkdirTemp("", "icws-quickstart-")
	if err != nil {
		return fmt.Errorf("making a directory for Caddy's storage: %w", err)
	}
	clean := func() { os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			clean()
		}
	}()

	network, err := localnet.New(localnet.Options{Latency: *latency})
	if err != nil {
		return err
	}
	canister := network.Install(localnet.NewCDK(localnet.CDKOptions{App: localnet.PingPong{}}))
	networkURL, err := network.Start("127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("starting the local network: %w", err)
	}

	s := &site{dir: dir, port: listen, canister: canister, network: networkURL, rootKey: network.RootKey()}
	if err := s.start(); err != nil {
		return err
	}
	// What follows runs on exit after the gateway has drained: caddymodule registered its part before.
	caddy.OnExit(func(context.Context) {
		network.Close()
		clean()
		fmt.Println("drained, bye")
	})
	caddy.TrapSignals()
	s.explain()
	s.converse(*interval)
	return nil
}

// claimPort checks that the port is free, because Caddy shares ports with other processes where the system lets it, and
// two quickstarts would then answer each other's clients.
func claimPort(port int) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return 0, fmt.Errorf("port %d is taken (%w): stop what listens there, or choose another with -port", port, err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
