package relay

import (
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// writeBuffers are shared by all connections: a buffer is in use only while a frame is being written.
var writeBuffers sync.Pool

// Upgrader returns settings for WebSocket upgrades that suit many, mostly idle connections: a small read buffer, a
// shared write buffer that a usual frame fits into whole (one TLS record, one system call), no compression (hashes
// and signatures do not compress). It checks no origin and answers failed upgrades itself; callers set CheckOrigin
// and Error for what they want.
func Upgrader() *websocket.Upgrader {
	return &websocket.Upgrader{
		ReadBufferSize:  256,
		WriteBufferSize: 16 << 10,
		WriteBufferPool: &writeBuffers,
		CheckOrigin:     func(*http.Request) bool { return true },
	}
}
