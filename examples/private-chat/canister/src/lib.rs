//! Rooms whose messages only their members can read.
//!
//! The canister knows who is in a room. It asks the network for the key of the room's epoch, encrypted to a member, and
//! hands it over without being able to read it; and it relays what members say, which it cannot read either, with the
//! principal of who said it. All of it goes over IC WebSockets, so that a gateway sees ciphertext and nothing else.

use std::cell::RefCell;

use candid::{decode_one, encode_one, CandidType, Principal};
use ic_cdk::api::call::call_raw128;
use ic_cdk::{init, post_upgrade, query, update};
use ic_websocket_cdk::{
    CanisterWsCloseArguments, CanisterWsCloseResult, CanisterWsGetMessagesArguments,
    CanisterWsGetMessagesResult, CanisterWsMessageArguments, CanisterWsMessageResult,
    CanisterWsOpenArguments, CanisterWsOpenResult, OnMessageCallbackArgs, OnOpenCallbackArgs,
    WsHandlers, WsInitParams,
};
use serde::Deserialize;

mod rooms;
use rooms::{Refusal, Rooms};

/// The master key: `dfx_test_key` on local networks, `test_key_1` to try things and `key_1` in earnest on mainnet. It is
/// compiled in, so that an upgrade cannot change it by mistake: with another key nobody could read what was said before.
const KEY_NAME: &str = match option_env!("VETKD_KEY_NAME") {
    Some(name) => name,
    None => "dfx_test_key",
};

/// What the dearest key costs. The network gives back what it does not charge.
const KEY_CYCLES: u128 = 26_153_846_153;

/// Keys for another purpose would have another context.
const CONTEXT: &[u8] = b"private-chat";

/// Longest message of a client, with what Candid puts around it.
const MAX_MESSAGE: usize = 12_000;

/// What clients and canister tell each other: one type, as the JavaScript SDK has one for both directions.
#[derive(CandidType, Deserialize)]
enum Message {
    /// From clients: a room of one's own.
    #[serde(rename = "open")]
    Open,
    /// From its owner: let somebody in.
    #[serde(rename = "add")]
    Add { room: u64, who: Principal },
    /// From its owner, or from members about themselves: take somebody out.
    #[serde(rename = "remove")]
    Remove { room: u64, who: Principal },
    /// From its owner: the room ends.
    #[serde(rename = "close")]
    Close { room: u64 },
    /// From members: the key of an epoch, encrypted to a transport public key.
    #[serde(rename = "get_key")]
    GetKey {
        room: u64,
        epoch: u64,
        transport_key: Vec<u8>,
    },
    /// From members: something encrypted with the key of the present epoch. The canister passes the counter on.
    #[serde(rename = "say")]
    Say {
        room: u64,
        epoch: u64,
        counter: u64,
        ciphertext: Vec<u8>,
    },

    /// To members, when they come and whenever it has changed.
    #[serde(rename = "room")]
    Room {
        room: u64,
        epoch: u64,
        owner: Principal,
        members: Vec<Principal>,
    },
    /// To those who are no longer in a room.
    #[serde(rename = "left")]
    Left { room: u64 },
    #[serde(rename = "key")]
    Key {
        room: u64,
        epoch: u64,
        encrypted_key: Vec<u8>,
    },
    #[serde(rename = "said")]
    Said {
        room: u64,
        epoch: u64,
        sender: Principal,
        counter: u64,
        /// Nanoseconds since 1970.
        at: u64,
        ciphertext: Vec<u8>,
    },
    /// To who asked for something that is not done.
    #[serde(rename = "refused")]
    Refused {
        room: u64,
        request: String,
        reason: String,
    },
}

thread_local! {
    static ROOMS: RefCell<Rooms> = RefCell::default();
}

/// Sends to somebody. Who is not connected misses it, and learns of the rooms when they come back.
fn tell(who: Principal, message: &Message) {
    let bytes = encode_one(message).expect("a message can be encoded");
    let _ = ic_websocket_cdk::send(who, bytes);
}

fn tell_room(id: u64, to: Option<Principal>) {
    let told = ROOMS.with_borrow(|rooms| {
        let room = rooms.get(id)?;
        let members = room.members();
        let message = Message::Room {
            room: id,
            epoch: room.epoch,
            owner: room.owner,
            members: members.clone(),
        };
        Some((members, message))
    });
    if let Some((members, message)) = told {
        for who in to.map_or(members, |who| vec![who]) {
            tell(who, &message);
        }
    }
}

fn refuse(who: Principal, room: u64, request: &str, reason: &str) {
    tell(
        who,
        &Message::Refused {
            room,
            request: request.into(),
            reason: reason.into(),
        },
    );
}

fn on_open(args: OnOpenCallbackArgs) {
    let who = args.client_principal;
    for id in ROOMS.with_borrow(|rooms| rooms.with(who)) {
        tell_room(id, Some(who));
    }
}

/// A trap here would undo the whole call, sequence number included, and the client's next message would then be out of
/// sequence. So a message that cannot be used ends its session in words instead.
fn on_message(args: OnMessageCallbackArgs) {
    let caller = args.client_principal;
    let message = if args.message.len() <= MAX_MESSAGE {
        decode_one::<Message>(&args.message).ok()
    } else {
        None
    };
    let (room, request, outcome) = match message {
        Some(Message::Open) => (0, "open", open(caller)),
        Some(Message::Add { room, who }) => (room, "add", add(caller, room, who)),
        Some(Message::Remove { room, who }) => (room, "remove", remove(caller, room, who)),
        Some(Message::Close { room }) => (room, "close", close(caller, room)),
        Some(Message::GetKey {
            room,
            epoch,
            transport_key,
        }) => (room, "get_key", get_key(caller, room, epoch, transport_key)),
        Some(Message::Say {
            room,
            epoch,
            counter,
            ciphertext,
        }) => (room, "say", say(caller, room, epoch, counter, ciphertext)),
        _ => {
            if let Err(reason) = ic_websocket_cdk::close(caller) {
                ic_cdk::println!("not closed: {reason}");
            }
            return;
        }
    };
    if let Err(reason) = outcome {
        refuse(caller, room, request, reason);
    }
}

fn open(caller: Principal) -> Result<(), Refusal> {
    let id = ROOMS.with_borrow_mut(|rooms| rooms.open(caller, ic_cdk::api::time()))?;
    tell_room(id, None);
    Ok(())
}

fn add(caller: Principal, room: u64, who: Principal) -> Result<(), Refusal> {
    ROOMS.with_borrow_mut(|rooms| rooms.add(caller, room, who))?;
    tell_room(room, None);
    Ok(())
}

fn remove(caller: Principal, room: u64, who: Principal) -> Result<(), Refusal> {
    ROOMS.with_borrow_mut(|rooms| rooms.remove(caller, room, who))?;
    tell(who, &Message::Left { room });
    tell_room(room, None);
    Ok(())
}

fn close(caller: Principal, room: u64) -> Result<(), Refusal> {
    for who in ROOMS.with_borrow_mut(|rooms| rooms.close(caller, room))? {
        tell(who, &Message::Left { room });
    }
    Ok(())
}

/// The principal of the sender is that of the call, which the network has verified, and not one that the message names.
fn say(
    caller: Principal,
    room: u64,
    epoch: u64,
    counter: u64,
    ciphertext: Vec<u8>,
) -> Result<(), Refusal> {
    let to = ROOMS.with_borrow(|rooms| rooms.say(caller, room, epoch, &ciphertext))?;
    let message = Message::Said {
        room,
        epoch,
        sender: caller,
        counter,
        at: ic_cdk::api::time(),
        ciphertext,
    };
    for who in to {
        tell(who, &message);
    }
    Ok(())
}

/// `on_message` cannot wait, so what waits for the network goes on by itself.
fn get_key(
    caller: Principal,
    room: u64,
    epoch: u64,
    transport_key: Vec<u8>,
) -> Result<(), Refusal> {
    let now = ic_cdk::api::time();
    ROOMS.with_borrow_mut(|rooms| rooms.ask(caller, room, epoch, &transport_key, now))?;
    ic_cdk::spawn(hand_over(caller, room, epoch, transport_key));
    Ok(())
}

async fn hand_over(caller: Principal, room: u64, epoch: u64, transport_key: Vec<u8>) {
    let answer = derive_key(room, epoch, transport_key).await;
    // Other messages were handled meanwhile: who asked may have been taken out of the room.
    if let Err(reason) = ROOMS.with_borrow(|rooms| rooms.may_read(caller, room, epoch)) {
        return refuse(caller, room, "get_key", reason);
    }
    match answer {
        Ok(encrypted_key) => tell(
            caller,
            &Message::Key {
                room,
                epoch,
                encrypted_key,
            },
        ),
        Err(reason) => {
            ic_cdk::println!("no key: {reason}");
            refuse(
                caller,
                room,
                "get_key",
                "the network gave no key: ask again later",
            );
        }
    }
}

#[derive(CandidType)]
#[allow(non_camel_case_types)]
enum Curve {
    bls12_381_g2,
}

#[derive(CandidType)]
struct KeyId {
    curve: Curve,
    name: String,
}

fn key_id() -> KeyId {
    KeyId {
        curve: Curve::bls12_381_g2,
        name: KEY_NAME.into(),
    }
}

/// Calls the management canister. Newer versions of `ic-cdk` have functions for this, but cannot be in one canister with
/// the one that `ic-websocket-cdk` uses.
async fn manage(method: &str, arg: &impl CandidType, cycles: u128) -> Result<Vec<u8>, String> {
    let arg = encode_one(arg).map_err(|e| e.to_string())?;
    call_raw128(Principal::management_canister(), method, arg, cycles)
        .await
        .map_err(|(code, text)| format!("{code:?}: {text}"))
}

async fn derive_key(room: u64, epoch: u64, transport_key: Vec<u8>) -> Result<Vec<u8>, String> {
    #[derive(CandidType)]
    struct Arg {
        input: Vec<u8>,
        context: Vec<u8>,
        transport_public_key: Vec<u8>,
        key_id: KeyId,
    }
    #[derive(CandidType, Deserialize)]
    struct Reply {
        encrypted_key: Vec<u8>,
    }
    let arg = Arg {
        input: [room.to_be_bytes(), epoch.to_be_bytes()].concat(),
        context: CONTEXT.into(),
        transport_public_key: transport_key,
        key_id: key_id(),
    };
    let reply = manage("vetkd_derive_key", &arg, KEY_CYCLES).await?;
    decode_one::<Reply>(&reply)
        .map(|r| r.encrypted_key)
        .map_err(|e| e.to_string())
}

/// The public key that the keys of all rooms are verified with. On mainnet a client must not ask for it but derive it
/// from the network's master key, which needs nobody's word; on a local network it may not know that one.
#[update]
async fn public_key() -> Vec<u8> {
    #[derive(CandidType)]
    struct Arg {
        canister_id: Option<Principal>,
        context: Vec<u8>,
        key_id: KeyId,
    }
    #[derive(CandidType, Deserialize)]
    struct Reply {
        public_key: Vec<u8>,
    }
    let arg = Arg {
        canister_id: None,
        context: CONTEXT.into(),
        key_id: key_id(),
    };
    let reply = manage("vetkd_public_key", &arg, 0).await;
    match reply.map(|bytes| decode_one::<Reply>(&bytes)) {
        Ok(Ok(reply)) => reply.public_key,
        Ok(Err(e)) => ic_cdk::trap(&e.to_string()),
        Err(reason) => ic_cdk::trap(&reason),
    }
}

/// Starts the CDK, and with it the timer that sends acknowledgements. Timers do not survive an upgrade, and nor do the
/// rooms of this example.
#[init]
fn start() {
    ic_websocket_cdk::init(WsInitParams::new(WsHandlers {
        on_open: Some(on_open),
        on_message: Some(on_message),
        on_close: None,
    }));
}

#[post_upgrade]
fn start_again() {
    start();
}

#[update]
fn ws_open(args: CanisterWsOpenArguments) -> CanisterWsOpenResult {
    ic_websocket_cdk::ws_open(args)
}

#[update]
fn ws_close(args: CanisterWsCloseArguments) -> CanisterWsCloseResult {
    ic_websocket_cdk::ws_close(args)
}

/// The second argument only puts the type of the messages into the Candid interface, where the SDK reads it.
#[update]
fn ws_message(
    args: CanisterWsMessageArguments,
    msg_type: Option<Message>,
) -> CanisterWsMessageResult {
    ic_websocket_cdk::ws_message(args, msg_type)
}

#[query]
fn ws_get_messages(args: CanisterWsGetMessagesArguments) -> CanisterWsGetMessagesResult {
    ic_websocket_cdk::ws_get_messages(args)
}
