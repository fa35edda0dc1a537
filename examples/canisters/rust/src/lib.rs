//! A chat room: every message goes to everybody who is connected.
//!
//! The page in `examples/chat/web` is its client. What makes a canister speak IC WebSockets is small: `init` with three
//! callbacks, and four methods that hand their arguments to the CDK.

use std::cell::RefCell;
use std::collections::BTreeSet;

use candid::{decode_one, encode_one, CandidType, Principal};
use ic_cdk::{init, post_upgrade, query, update};
use ic_websocket_cdk::{
    CanisterWsCloseArguments, CanisterWsCloseResult, CanisterWsGetMessagesArguments,
    CanisterWsGetMessagesResult, CanisterWsMessageArguments, CanisterWsMessageResult,
    CanisterWsOpenArguments, CanisterWsOpenResult, OnCloseCallbackArgs, OnMessageCallbackArgs,
    OnOpenCallbackArgs, WsHandlers, WsInitParams,
};
use serde::Deserialize;

/// Longest name and text in bytes. Everything a client sends is kept in the queue of its gateway for five minutes.
const MAX_NAME: usize = 100;
const MAX_TEXT: usize = 8_000;

/// One line of the conversation, in both directions. The canister fills in `author`, `at` and `online` and ignores what
/// a client put there. A message without text only says how many people are here.
#[derive(CandidType, Deserialize, Clone)]
struct Message {
    author: Principal,
    name: String,
    text: String,
    /// Nanoseconds since 1970.
    at: u64,
    online: u32,
}

thread_local! {
    static PEOPLE: RefCell<BTreeSet<Principal>> = const { RefCell::new(BTreeSet::new()) };
}

/// Sends to everybody. A client that has just gone makes its own send fail, which is no reason to fail the others.
fn tell_everybody(mut message: Message) {
    let people: Vec<Principal> = PEOPLE.with_borrow(|people| people.iter().copied().collect());
    message.online = people.len() as u32;
    message.at = ic_cdk::api::time();
    let bytes = encode_one(&message).expect("a message can be encoded");
    for person in people {
        if let Err(reason) = ic_websocket_cdk::send(person, bytes.clone()) {
            ic_cdk::println!("not sent to {person}: {reason}");
        }
    }
}

fn tell_presence(author: Principal) {
    tell_everybody(Message {
        author,
        name: String::new(),
        text: String::new(),
        at: 0,
        online: 0,
    });
}

fn on_open(args: OnOpenCallbackArgs) {
    PEOPLE.with_borrow_mut(|people| people.insert(args.client_principal));
    tell_presence(args.client_principal);
}

/// A trap here would undo the whole call, sequence number included, and the client's next message would then be out of
/// sequence. So a message that cannot be used ends its session in words instead.
fn on_message(args: OnMessageCallbackArgs) {
    match decode_one::<Message>(&args.message) {
        Ok(message)
            if !message.text.is_empty()
                && message.text.len() <= MAX_TEXT
                && message.name.len() <= MAX_NAME =>
        {
            tell_everybody(Message {
                author: args.client_principal,
                ..message
            })
        }
        _ => {
            if let Err(reason) = ic_websocket_cdk::close(args.client_principal) {
                ic_cdk::println!("not closed: {reason}");
            }
        }
    }
}

fn on_close(args: OnCloseCallbackArgs) {
    PEOPLE.with_borrow_mut(|people| people.remove(&args.client_principal));
    tell_presence(args.client_principal);
}

/// Starts the CDK, and with it the timer that sends acknowledgements. Timers do not survive an upgrade: without
/// `post_upgrade` no client would ever be acknowledged again, and each would give up after five and a half minutes.
#[init]
fn start() {
    ic_websocket_cdk::init(WsInitParams::new(WsHandlers {
        on_open: Some(on_open),
        on_message: Some(on_message),
        on_close: Some(on_close),
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
