//! Who is in which room, and who may have which key: rules only, without calls and without a clock.
//!
//! `examples/private-chat/room/rooms.go` has the same rules in the same order, and the same tests run against both.

use std::collections::BTreeMap;

use candid::Principal;

/// Bounds of what strangers can make the canister keep and pay for.
pub const MAX_ROOMS: usize = 1_000;
pub const MAX_ROOMS_OF_OWNER: usize = 10;
pub const MAX_ROOMS_OF_MEMBER: usize = 100;
pub const MAX_MEMBERS: usize = 50;
/// Everybody who ever was in a room, each time counted.
pub const MAX_STAYS: usize = 500;
/// Each key costs cycles.
pub const MAX_KEYS_PER_HOUR: u32 = 30;
pub const MAX_CIPHERTEXT: usize = 8_000;

const HOUR: u64 = 3_600_000_000_000;

/// What says no. Strangers get the same words for a room that does not exist and for one that they are not in.
pub type Refusal = &'static str;
pub const NO_ROOM: Refusal = "no such room, or you are not in it";
pub const NOT_OWNER: Refusal = "only the owner of the room may do that";
pub const NO_KEY: Refusal = "you were not in the room in that epoch";

/// From which epoch to which somebody was in a room.
struct Stay {
    who: Principal,
    from: u64,
    until: Option<u64>,
}

pub struct Room {
    pub owner: Principal,
    /// Counts from 1. Each has a key of its own.
    pub epoch: u64,
    stays: Vec<Stay>,
}

impl Room {
    pub fn has(&self, who: Principal) -> bool {
        self.stays.iter().any(|s| s.who == who && s.until.is_none())
    }

    /// Those who are in the room, in the order in which they came.
    pub fn members(&self) -> Vec<Principal> {
        self.stays
            .iter()
            .filter(|s| s.until.is_none())
            .map(|s| s.who)
            .collect()
    }

    fn was_here(&self, who: Principal, epoch: u64) -> bool {
        self.stays
            .iter()
            .any(|s| s.who == who && s.from <= epoch && epoch <= s.until.unwrap_or(self.epoch))
    }
}

#[derive(Default)]
pub struct Rooms {
    rooms: BTreeMap<u64, Room>,
    last: u64,
    /// Since when a principal's keys are counted, and how many there were.
    asked: BTreeMap<Principal, (u64, u32)>,
}

impl Rooms {
    /// Opens a room with one member. Its number is never used again, not even after an upgrade that forgets all rooms,
    /// because time goes on: a number that came back would bring back the keys of another room.
    pub fn open(&mut self, owner: Principal, now: u64) -> Result<u64, Refusal> {
        if self.rooms.len() >= MAX_ROOMS {
            return Err("there are too many rooms");
        }
        if self.rooms.values().filter(|r| r.owner == owner).count() >= MAX_ROOMS_OF_OWNER {
            return Err("you have too many rooms: close one first");
        }
        self.last = now.max(self.last + 1);
        let stays = vec![Stay {
            who: owner,
            from: 1,
            until: None,
        }];
        self.rooms.insert(
            self.last,
            Room {
                owner,
                epoch: 1,
                stays,
            },
        );
        Ok(self.last)
    }

    /// The room, for those who are in it.
    pub fn of(&self, caller: Principal, room: u64) -> Result<&Room, Refusal> {
        self.rooms
            .get(&room)
            .filter(|r| r.has(caller))
            .ok_or(NO_ROOM)
    }

    pub fn get(&self, room: u64) -> Option<&Room> {
        self.rooms.get(&room)
    }

    /// The numbers of the rooms that somebody is in.
    pub fn with(&self, who: Principal) -> Vec<u64> {
        self.rooms
            .iter()
            .filter(|(_, r)| r.has(who))
            .map(|(id, _)| *id)
            .collect()
    }

    fn owned(&mut self, caller: Principal, room: u64) -> Result<&mut Room, Refusal> {
        self.of(caller, room)?;
        let found = self.rooms.get_mut(&room).ok_or(NO_ROOM)?;
        if found.owner != caller {
            return Err(NOT_OWNER);
        }
        Ok(found)
    }

    /// Lets somebody in. Whoever comes can have the key of the present epoch.
    pub fn add(&mut self, caller: Principal, room: u64, who: Principal) -> Result<(), Refusal> {
        let rooms = self.with(who).len();
        let room = self.owned(caller, room)?;
        if who == Principal::anonymous() {
            return Err("nobody in particular cannot be in a room");
        }
        if rooms >= MAX_ROOMS_OF_MEMBER {
            return Err("they are in too many rooms");
        }
        if room.has(who) {
            return Err("they are in the room already");
        }
        if room.members().len() >= MAX_MEMBERS || room.stays.len() >= MAX_STAYS {
            return Err("the room is full: open another one");
        }
        room.stays.push(Stay {
            who,
            from: room.epoch,
            until: None,
        });
        Ok(())
    }

    /// Takes somebody out, which members may do with themselves, and begins the next epoch: what is said from now on is
    /// encrypted with a key that who has gone cannot ask for.
    pub fn remove(&mut self, caller: Principal, room: u64, who: Principal) -> Result<(), Refusal> {
        if caller == who {
            self.of(caller, room)?;
        } else {
            self.owned(caller, room)?;
        }
        let room = self.rooms.get_mut(&room).ok_or(NO_ROOM)?;
        if who == room.owner {
            return Err("the owner stays: close the room instead");
        }
        let epoch = room.epoch;
        let stay = room
            .stays
            .iter_mut()
            .find(|s| s.who == who && s.until.is_none())
            .ok_or("they are not in the room")?;
        stay.until = Some(epoch);
        room.epoch += 1;
        Ok(())
    }

    /// Ends a room and says who was in it.
    pub fn close(&mut self, caller: Principal, room: u64) -> Result<Vec<Principal>, Refusal> {
        let members = self.owned(caller, room)?.members();
        self.rooms.remove(&room);
        Ok(members)
    }

    /// Whether somebody may have the key of an epoch: who is in the room now and was in it then.
    pub fn may_read(&self, caller: Principal, room: u64, epoch: u64) -> Result<(), Refusal> {
        if self.of(caller, room)?.was_here(caller, epoch) {
            Ok(())
        } else {
            Err(NO_KEY)
        }
    }

    /// Counts a request for a key that is about to be paid for.
    pub fn ask(
        &mut self,
        caller: Principal,
        room: u64,
        epoch: u64,
        transport_key: &[u8],
        now: u64,
    ) -> Result<(), Refusal> {
        self.may_read(caller, room, epoch)?;
        // The one encoding of the identity. What is encrypted to it is not encrypted: the gateway could read it.
        let mut identity = [0; 48];
        identity[0] = 0xc0;
        if transport_key.len() != identity.len() || transport_key == identity {
            return Err("that is not a transport key");
        }
        self.asked.retain(|_, (since, _)| now < *since + HOUR);
        let (_, keys) = self.asked.entry(caller).or_insert((now, 0));
        if *keys >= MAX_KEYS_PER_HOUR {
            return Err("you have asked for too many keys: wait an hour");
        }
        *keys += 1;
        Ok(())
    }

    /// Whether something may be said, and to whom.
    pub fn say(
        &self,
        caller: Principal,
        room: u64,
        epoch: u64,
        ciphertext: &[u8],
    ) -> Result<Vec<Principal>, Refusal> {
        let room = self.of(caller, room)?;
        if epoch != room.epoch {
            return Err("that epoch is not the present one: encrypt again with its key");
        }
        if ciphertext.is_empty() || ciphertext.len() > MAX_CIPHERTEXT {
            return Err("a message has from 1 to 8000 bytes");
        }
        Ok(room.members())
    }
}
