package localnet

import (
	"fmt"
	"io"
	"log"

	"github.com/icws-gateway/caddy-icws/verify"
)

// silent is a logger for the HTTP servers: a client that goes away is no news.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }

// InstallOption changes where a canister is installed.
type InstallOption func(*installation)

type installation struct{ subnet int }

// OnSubnet installs on the application subnet with this number, counted from
// 0, which is made if it does not exist yet. Networks without delegation have
// one subnet only.
func OnSubnet(i int) InstallOption { return func(o *installation) { o.subnet = i } }

// Install creates a canister and runs its Init. The first one is
// bkyz2-fmaaa-aaaaa-qaaaq-cai (80000000001000010101), further ones follow. It
// panics where TryInstall fails: what is installed is chosen by the program,
// not by a stranger.
func (n *Network) Install(c Canister, opts ...InstallOption) verify.Principal {
	id, err := n.TryInstall(c, opts...)
	if err != nil {
		panic(err)
	}
	return id
}

// TryInstall is Install with the errors of the canister's Init, after which no
// canister exists, and of options that do not fit the network.
func (n *Network) TryInstall(c Canister, opts ...InstallOption) (verify.Principal, error) {
	var o installation
	for _, opt := range opts {
		opt(&o)
	}
	if o.subnet < 0 || o.subnet > 0 && n.opts.NoDelegation {
		return verify.Principal{}, fmt.Errorf("no subnet %d: use one from 0, without NoDelegation if above 0", o.subnet)
	}
	for len(n.subnets()) <= o.subnet {
		n.addSubnet()
	}
	s := n.subnets()[o.subnet]
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := &slot{id: canisterID(s.nextID)}
	if err := s.installLocked(slot, c); err != nil {
		return verify.Principal{}, err
	}
	s.nextID++
	s.slots[slot.id] = slot
	s.armLocked()
	return slot.id, nil
}

// installLocked puts c into the slot and runs its Init. Timers and awaited
// messages of what was there before are void.
func (s *subnet) installLocked(slot *slot, c Canister) error {
	old := slot.canister
	slot.canister = c
	slot.install++
	env := s.envLocked(slot, slot.id, s.net.Now())
	_, reject := slot.run("", "init", func() ([]byte, error) { return nil, c.Init(env) })
	if reject != nil {
		slot.canister = old
		return reject
	}
	slot.installed = env.Time
	if !env.setCertified {
		env.SetCertifiedData([]byte{}) // the state of a canister that certifies nothing
	}
	s.applyLocked(slot, env, true)
	return nil
}

// change runs f on the slot of id.
func (n *Network) change(id verify.Principal, f func(s *subnet, slot *slot) error) error {
	s, err := n.slot(id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.slots[id]
	if slot == nil {
		return fmt.Errorf("no canister %s: install one first", id)
	}
	if err := f(s, slot); err != nil {
		return err
	}
	slot.changed, s.dirty = true, true
	s.armLocked()
	return nil
}

// Upgrade runs Init of the installed program again. A program keeps nothing
// across it, as a canister does whose state lies in plain heap: a CDK canister
// forgets its clients, queues and nonces.
func (n *Network) Upgrade(id verify.Principal) error {
	return n.change(id, func(s *subnet, slot *slot) error {
		if slot.canister == nil {
			return slot.refusal()
		}
		return s.installLocked(slot, slot.canister)
	})
}

// Reinstall replaces the program of a canister, or puts one where none is.
func (n *Network) Reinstall(id verify.Principal, c Canister) error {
	return n.change(id, func(s *subnet, slot *slot) error { return s.installLocked(slot, c) })
}

// Uninstall removes the program. Messages fail with IC0537 from then on.
func (n *Network) Uninstall(id verify.Principal) error {
	return n.change(id, func(s *subnet, slot *slot) error {
		slot.canister = nil
		slot.install++
		slot.certified = nil
		s.canisterTree = s.canisterTree.without(id.Bytes())
		return nil
	})
}

// Delete removes the canister. Messages fail with IC0301 from then on, while
// an id that no subnet holds is answered with 400 and canister_not_found.
func (n *Network) Delete(id verify.Principal) error {
	return n.change(id, func(s *subnet, slot *slot) error {
		slot.canister = nil
		slot.install++
		delete(s.slots, id)
		s.canisterTree = s.canisterTree.without(id.Bytes())
		return nil
	})
}

// Stopping lets messages fail with IC0509, as during the first part of an
// upgrade by the book.
func (n *Network) Stopping(id verify.Principal) error { return n.setMode(id, stopping) }

// Stop lets messages fail with IC0508 until StartCanister.
func (n *Network) Stop(id verify.Principal) error { return n.setMode(id, stopped) }

// StartCanister lets a stopped canister run again.
func (n *Network) StartCanister(id verify.Principal) error { return n.setMode(id, running) }

func (n *Network) setMode(id verify.Principal, m slotMode) error {
	return n.change(id, func(_ *subnet, slot *slot) error { slot.mode = m; return nil })
}

// OutOfCycles lets messages fail with IC0207 and reject code 2 while on.
func (n *Network) OutOfCycles(id verify.Principal, on bool) error {
	return n.change(id, func(_ *subnet, slot *slot) error { slot.broke = on; return nil })
}
