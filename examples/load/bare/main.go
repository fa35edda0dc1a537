// Command bare is the server that the modes scale and bench of examples/load compare the gateway with.
//
//	bare [-all] [-size bytes] [-cert file -key file]
//
// It listens on loopback, prints its address as the first line, and ends with its standard input.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/internal/bare"
)

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

func serve() error {
	all := flag.Bool("all", false, "write to all clients in place of the sender")
	size := flag.Int("size", 0, "least bytes of a frame")
	cert := flag.String("cert", "", "file of the certificate; without it there is no TLS")
	key := flag.String("key", "", "file of its key")
	flag.Parse()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: bare.NewServer(*size, *all), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() {
		if *cert != "" {
			served <- server.ServeTLS(l, *cert, *key)
		} else {
			served <- server.Serve(l)
		}
	}()
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
