package caddymodule

import (
	"context"
	"sync"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

// farewellPrefix is where a process leaves word in Caddy's storage: icws/farewells/<gateway principal>.
const farewellPrefix = "icws/farewells/"

// farewells are those of this process.
var farewells farewellBook

// farewellBook knows for each gateway principal whether the canisters have been told of all its clients. A process that ends leaves
// word of that in storage, and the next one takes it away again: nothing else tells a clean stop from a crash, after which clients
// are looked for that the canisters still list. The zero value is ready for use, and safe for concurrent use.
type farewellBook struct {
	mu  sync.Mutex
	all map[string]*farewell
}

// farewell is of one principal. The book's lock guards it.
type farewell struct {
	storage certmagic.Storage
	clean   bool // the process before this one left word
	open    int  // gateways that have not ended
	untold  bool // one of them could not tell all
}

// begin notes that a gateway begins, and reports whether the process before this one told the canisters of all its clients.
func (b *farewellBook) begin(ctx context.Context, principal string, storage certmagic.Storage) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.all[principal]
	if f == nil {
		if b.all == nil {
			b.all = make(map[string]*farewell)
		}
		f = &farewell{clean: takeFarewell(ctx, storage, farewellPrefix+principal)}
		b.all[principal] = f
	}
	f.storage = storage
	f.open++
	return f.clean
}

// takeFarewell reports whether there is word at key, and takes it away. Word that stays does not count: it would hide a crash.
func takeFarewell(ctx context.Context, storage certmagic.Storage, key string) bool {
	return storage.Exists(ctx, key) && storage.Delete(ctx, key) == nil && !storage.Exists(ctx, key)
}

// end notes that a gateway has ended.
func (b *farewellBook) end(principal string, told bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.all[principal]
	f.open--
	f.untold = f.untold || !told
}

// leave leaves word where everybody has been told. The process ends.
func (b *farewellBook) leave(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for principal, f := range b.all {
		if f.open > 0 || f.untold {
			continue
		}
		if err := f.storage.Store(ctx, farewellPrefix+principal, []byte("told")); err != nil {
			caddy.Log().Named("http.handlers.icws").Warn("the next start will look for sessions that this run has left behind", zap.Error(err))
		}
	}
}
