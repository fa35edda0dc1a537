package room

import (
	"maps"
	"slices"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet/vetkd"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Bounds of what strangers can make the canister keep and pay for, as in
// canister/src/rooms.rs.
const (
	maxRooms         = 1000
	maxRoomsOfOwner  = 10
	maxRoomsOfMember = 100
	maxMembers       = 50
	maxStays         = 500 // everybody who ever was in a room, each time counted
	maxKeysPerHour   = 30
	maxCiphertext    = 8000
)

// refusal says no, to the one who asked.
type refusal string

// Strangers get the same words for a room that does not exist and for one that
// they are not in.
const (
	granted  refusal = ""
	noRoom   refusal = "no such room, or you are not in it"
	notOwner refusal = "only the owner of the room may do that"
	noKey    refusal = "you were not in the room in that epoch"
)

// stay is from which epoch to which somebody was in a room.
type stay struct {
	who         verify.Principal
	from, until uint64
	here        bool // until does not count
}

type oneRoom struct {
	owner verify.Principal
	epoch uint64 // counts from 1; each has a key of its own
	stays []stay
}

func (r *oneRoom) has(who verify.Principal) bool {
	return slices.ContainsFunc(r.stays, func(s stay) bool { return s.who == who && s.here })
}

// members are those who are in the room, in the order in which they came.
func (r *oneRoom) members() (who []verify.Principal) {
	for _, s := range r.stays {
		if s.here {
			who = append(who, s.who)
		}
	}
	return who
}

func (r *oneRoom) wasHere(who verify.Principal, epoch uint64) bool {
	return slices.ContainsFunc(r.stays, func(s stay) bool {
		until := s.until
		if s.here {
			until = r.epoch
		}
		return s.who == who && s.from <= epoch && epoch <= until
	})
}

// rooms is who is in which room, and who may have which key: rules only.
type rooms struct {
	rooms map[uint64]*oneRoom
	last  uint64
	asked map[verify.Principal]keysAsked
}

type keysAsked struct {
	since time.Time
	keys  int
}

func newRooms() *rooms {
	return &rooms{rooms: map[uint64]*oneRoom{}, asked: map[verify.Principal]keysAsked{}}
}

// open opens a room with one member. Its number is never used again, not even
// after an upgrade that forgets all rooms, because time goes on.
func (r *rooms) open(owner verify.Principal, now time.Time) (uint64, refusal) {
	if len(r.rooms) >= maxRooms {
		return 0, "there are too many rooms"
	}
	owned := 0
	for _, room := range r.rooms {
		if room.owner == owner {
			owned++
		}
	}
	if owned >= maxRoomsOfOwner {
		return 0, "you have too many rooms: close one first"
	}
	r.last = max(uint64(now.UnixNano()), r.last+1)
	r.rooms[r.last] = &oneRoom{owner: owner, epoch: 1, stays: []stay{{who: owner, from: 1, here: true}}}
	return r.last, granted
}

// of is the room, for those who are in it; nil for others.
func (r *rooms) of(caller verify.Principal, id uint64) *oneRoom {
	if room := r.rooms[id]; room != nil && room.has(caller) {
		return room
	}
	return nil
}

// with are the numbers of the rooms that somebody is in.
func (r *rooms) with(who verify.Principal) []uint64 {
	ids := slices.Sorted(maps.Keys(r.rooms))
	return slices.DeleteFunc(ids, func(id uint64) bool { return !r.rooms[id].has(who) })
}

func (r *rooms) owned(caller verify.Principal, id uint64) (*oneRoom, refusal) {
	room := r.of(caller, id)
	switch {
	case room == nil:
		return nil, noRoom
	case room.owner != caller:
		return nil, notOwner
	}
	return room, granted
}

// add lets somebody in. Whoever comes can have the key of the present epoch.
func (r *rooms) add(caller verify.Principal, id uint64, who verify.Principal) refusal {
	room, refused := r.owned(caller, id)
	switch {
	case refused != granted:
		return refused
	case who.IsAnonymous():
		return "nobody in particular cannot be in a room"
	case len(r.with(who)) >= maxRoomsOfMember:
		return "they are in too many rooms"
	case room.has(who):
		return "they are in the room already"
	case len(room.members()) >= maxMembers || len(room.stays) >= maxStays:
		return "the room is full: open another one"
	}
	room.stays = append(room.stays, stay{who: who, from: room.epoch, here: true})
	return granted
}

// remove takes somebody out, which members may do with themselves, and begins
// the next epoch: what is said from now on is encrypted with a key that who has
// gone cannot ask for.
func (r *rooms) remove(caller verify.Principal, id uint64, who verify.Principal) refusal {
	room := r.of(caller, id)
	switch {
	case room == nil:
		return noRoom
	case caller != who && caller != room.owner:
		return notOwner
	case who == room.owner:
		return "the owner stays: close the room instead"
	}
	i := slices.IndexFunc(room.stays, func(s stay) bool { return s.who == who && s.here })
	if i < 0 {
		return "they are not in the room"
	}
	room.stays[i].here, room.stays[i].until = false, room.epoch
	room.epoch++
	return granted
}

// close ends a room and says who was in it.
func (r *rooms) close(caller verify.Principal, id uint64) ([]verify.Principal, refusal) {
	room, refused := r.owned(caller, id)
	if refused != granted {
		return nil, refused
	}
	delete(r.rooms, id)
	return room.members(), granted
}

// mayRead tells whether somebody may have the key of an epoch: who is in the
// room now and was in it then.
func (r *rooms) mayRead(caller verify.Principal, id, epoch uint64) refusal {
	room := r.of(caller, id)
	switch {
	case room == nil:
		return noRoom
	case !room.wasHere(caller, epoch):
		return noKey
	}
	return granted
}

// ask counts a request for a key that is about to be paid for.
func (r *rooms) ask(caller verify.Principal, id, epoch uint64, transportKey []byte, now time.Time) refusal {
	if refused := r.mayRead(caller, id, epoch); refused != granted {
		return refused
	}
	// What is encrypted to the identity is not encrypted: the gateway could read it.
	if len(transportKey) != vetkd.TransportKeySize || vetkd.IsIdentity(transportKey) {
		return "that is not a transport key"
	}
	maps.DeleteFunc(r.asked, func(_ verify.Principal, a keysAsked) bool { return now.Sub(a.since) >= time.Hour })
	a, ok := r.asked[caller]
	if !ok {
		a.since = now
	}
	if a.keys >= maxKeysPerHour {
		return "you have asked for too many keys: wait an hour"
	}
	a.keys++
	r.asked[caller] = a
	return granted
}

// say tells whether something may be said, and to whom.
func (r *rooms) say(caller verify.Principal, id, epoch uint64, ciphertext []byte) ([]verify.Principal, refusal) {
	room := r.of(caller, id)
	switch {
	case room == nil:
		return nil, noRoom
	case epoch != room.epoch:
		return nil, "that epoch is not the present one: encrypt again with its key"
	case len(ciphertext) == 0 || len(ciphertext) > maxCiphertext:
		return nil, "a message has from 1 to 8000 bytes"
	}
	return room.members(), granted
}
