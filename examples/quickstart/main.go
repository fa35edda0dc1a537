package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/icws-gateway/caddy-icws/examples/internal/site"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

func main() {
	err := run(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if caddy.Exiting() {
		select {} // interrupted while it started: Caddy ends the process
	}
	fmt.Fprintln(os.Stderr, "quickstart:", err)
	os.Exit(1)
}

// faults are those of the local network. Tests set them.
var faults localnet.Faults

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
	listen, err := site.ClaimPort(*port)
	if err != nil {
		return err
	}

	// From here on a signal ends the process as it ends Caddy: sessions are drained, then what OnExit was given runs, last
	// what was registered last; caddymodule was first.
	caddy.TrapSignals()
	network, err := localnet.New(localnet.Options{Latency: *latency})
	if err != nil {
		return err
	}
	network.SetFaults(faults)
	canister := network.Install(localnet.NewCDK(localnet.CDKOptions{App: localnet.PingPong{}}))
	networkURL, err := network.Start("127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("starting the local network: %w", err)
	}
	dir, err := os.MkdirTemp("", "icws-quickstart-")
	if err != nil {
		return fmt.Errorf("making a directory for Caddy's storage: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	started := make(chan struct{})
	caddy.OnExit(func(context.Context) {
		cancel()
		<-started
		site.Stop() // there is something to stop only if this came in while it started
		network.Close()
		remove(dir)
		fmt.Println("drained, bye")
	})
	defer func() {
		if err != nil {
			remove(dir)
		}
	}()

	d := &demo{port: listen, canister: canister, network: networkURL, rootKey: network.RootKey()}
	err = d.start(ctx, dir)
	close(started)
	if err != nil {
		return err
	}
	d.explain()
	return d.converse(*interval)
}

// remove removes the directory of Caddy's storage. Where the process is interrupted while Caddy obtains its certificate,
// that is still being written, so it looks again.
func remove(dir string) {
	for range 5 {
		os.RemoveAll(dir)
		time.Sleep(20 * time.Millisecond)
	}
}
