package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/internal/quiet"
	"github.com/icws-gateway/caddy-icws/examples/internal/site"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt does not wait for the drain
	switch err := run(ctx, os.Args[1:]); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	default:
		fmt.Println("drained, bye")
	}
}

// What tests set.
var (
	faults   localnet.Faults  // of the local network
	patience = quiet.Patience // before silence is explained
)

// run starts everything and talks until ctx ends, then drains the session and removes what it made.
func run(ctx context.Context, args []string) (err error) {
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

	network, err := localnet.New(localnet.Options{Latency: *latency})
	if err != nil {
		return err
	}
	defer network.Close()
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
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	d := &demo{port: listen, canister: canister, network: networkURL, rootKey: network.RootKey()}
	if err := d.start(ctx, dir); err != nil && ctx.Err() == nil {
		return err
	}
	if ctx.Err() == nil {
		d.explain()
		talking := make(chan error, 1)
		go func() { talking <- d.converse(ctx, *interval) }()
		select {
		case err := <-talking:
			return errors.Join(err, site.Stop())
		case <-ctx.Done(): // the session hears of it by the drain
		}
		err = site.Stop()
		<-talking
	}
	return err
}
