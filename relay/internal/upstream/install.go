package upstream

import (
	"context"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// InstallTime is what was read of when a canister's program was put in place. The network certifies it (interface
// specification 0.66), and anybody may read it.
type InstallTime struct {
	At   time.Time // zero if the network does not know
	AsOf time.Time // the certified time of the reading
	Host *Host     // that answered
}

// ReadInstallTime reads when the program of canister was put in place, from avoid only where no other host gives an answer;
// it may be nil. The error is a *BadAnswer if the answer does not hold, or that of the request.
func (n *Network) ReadInstallTime(ctx context.Context, canister verify.Principal, avoid *Host) (InstallTime, error) {
	a, err := n.readState(ctx, canister, avoiding(avoid), []byte("canister"), canister.Bytes(), []byte("last_install_timestamp"))
	if err != nil {
		return InstallTime{}, err
	}
	at, err := verify.InstallTime(a.cert, canister)
	if err != nil {
		return InstallTime{}, a.Bad(err)
	}
	a.Good()
	return InstallTime{At: at, AsOf: a.cert.Time(), Host: a.Host}, nil
}
