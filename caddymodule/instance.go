package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
)

const (
	// instanceSettle is how long a new instance id must stay the same before it is used.
	instanceSettle = 250 * time.Millisecond
	// instanceRetry is the pause between two looks at it.
	instanceRetry = 10 * time.Millisecond
)

// instanceMu keeps the gateways of this process from making instance ids against each other.
var instanceMu sync.Mutex

// instanceFile is where Caddy keeps the id of an instance (caddy.InstanceID).
func instanceFile() string { return filepath.Join(caddy.AppDataDir(), "instance.uuid") }

// hasInstanceID reports whether this instance has an id yet, which asking Caddy for it would create.
func hasInstanceID() bool {
	_, err := os.Stat(instanceFile())
	return !errors.Is(err, fs.ErrNotExist)
}

// instanceID returns the id of this instance, which is a part of where its identities are kept. On the very first start the
// TLS app asks for it at the same time, and Caddy's function lets the last writer win: whoever used the other id would not
// find its identity again, and the gateway would come back as somebody else. So a new id is used only once it has settled.
func instanceID(ctx context.Context) (string, error) {
	instanceMu.Lock()
	defer instanceMu.Unlock()
	fresh := !hasInstanceID()
	id, err := caddy.InstanceID()
	if err == nil && !fresh {
		return id.String(), nil
	}
	since := time.Now()
	for time.Since(since) < instanceSettle {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(instanceRetry):
		}
		// An error can be a file that is being written.
		again, errAgain := caddy.InstanceID()
		if errAgain == nil && (err != nil || again != id) {
			since = time.Now()
		}
		if errAgain == nil || err != nil {
			id, err = again, errAgain
		}
	}
	if err != nil {
		return "", fmt.Errorf("reading the id of this Caddy instance (%s): %w: make the directory writable, or use `identity file <path>`", instanceFile(), err)
	}
	return id.String(), nil
}
