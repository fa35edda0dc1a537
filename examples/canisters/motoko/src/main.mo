/// A chat room: every message goes to everybody who is connected.
///
/// The page in `examples/chat/web` is its client, and `examples/canisters/rust` is the same canister in Rust.

import Debug "mo:base/Debug";
import Nat32 "mo:base/Nat32";
import Nat64 "mo:base/Nat64";
import Principal "mo:base/Principal";
import Text "mo:base/Text";
import Time "mo:base/Time";
import Int "mo:base/Int";
import TrieSet "mo:base/TrieSet";
import Cdk "mo:ic-websocket-cdk";
import CdkState "mo:ic-websocket-cdk/State";
import CdkTypes "mo:ic-websocket-cdk/Types";

persistent actor Chat {
  /// One line of the conversation, in both directions. The canister fills in `author`, `at` and `online` and ignores
  /// what a client put there. A message without text only says how many people are here.
  type Message = {
    author : Principal;
    name : Text;
    text : Text;
    /// Nanoseconds since 1970.
    at : Nat64;
    online : Nat32;
  };

  /// Longest name and text in characters. What a client sends is kept in its gateway's queue for five minutes.
  transient let maxName = 50;
  transient let maxText = 2_000;

  /// Who is connected. Sessions do not survive an upgrade, so neither does this.
  transient var people : TrieSet.Set<Principal> = TrieSet.empty();

  /// Sends to everybody. A client that has just gone makes its own send fail, which is no reason to fail the others.
  func tellEverybody(author : Principal, name : Text, text : Text) : async () {
    let everybody = TrieSet.toArray(people);
    let message : Message = {
      author;
      name;
      text;
      at = Nat64.fromNat(Int.abs(Time.now()));
      online = Nat32.fromNat(everybody.size());
    };
    let bytes = to_candid (message);
    for (person in everybody.vals()) {
      switch (await Cdk.send(wsState, person, bytes)) {
        case (#Ok(_)) {};
        case (#Err(reason)) Debug.print("not sent to " # Principal.toText(person) # ": " # reason);
      };
    };
  };

  func onOpen(args : CdkTypes.OnOpenCallbackArgs) : async () {
    people := TrieSet.put(people, args.client_principal, Principal.hash(args.client_principal), Principal.equal);
    await tellEverybody(args.client_principal, "", "");
  };

  /// Bytes that are not a Message end the session in words. (Motoko's from_candid traps on bytes that are not Candid at
  /// all; the gateway then reports the rejected call to the client.)
  func onMessage(args : CdkTypes.OnMessageCallbackArgs) : async () {
    let received : ?Message = from_candid (args.message);
    switch (received) {
      case (?message) {
        if (message.text != "" and message.text.size() <= maxText and message.name.size() <= maxName) {
          await tellEverybody(args.client_principal, message.name, message.text);
          return;
        };
      };
      case null {};
    };
    ignore await Cdk.close(wsState, args.client_principal);
    await left(args.client_principal); // a close from this side does not call onClose in Motoko
  };

  func onClose(args : CdkTypes.OnCloseCallbackArgs) : async () {
    await left(args.client_principal);
  };

  func left(person : Principal) : async () {
    people := TrieSet.delete(people, person, Principal.hash(person), Principal.equal);
    await tellEverybody(person, "", "");
  };

  transient let params = CdkTypes.WsInitParams(null, null);
  transient let wsState = CdkState.IcWebSocketState(params);
  transient let handlers = CdkTypes.WsHandlers(?onOpen, ?onMessage, ?onClose);
  transient let ws = Cdk.IcWebSocket(wsState, params, handlers);

  // Starts the timer that sends acknowledgements; being a statement of the actor it runs again after every upgrade.
  // Without it no client is ever acknowledged, and each gives up after five and a half minutes.
  ws.init<system>();

  public shared ({ caller }) func ws_open(args : Cdk.CanisterWsOpenArguments) : async Cdk.CanisterWsOpenResult {
    await ws.ws_open(caller, args);
  };

  public shared ({ caller }) func ws_close(args : Cdk.CanisterWsCloseArguments) : async Cdk.CanisterWsCloseResult {
    await ws.ws_close(caller, args);
  };

  /// The second argument only puts the type of the messages into the Candid interface, where the SDK reads it.
  public shared ({ caller }) func ws_message(args : Cdk.CanisterWsMessageArguments, msgType : ?Message) : async Cdk.CanisterWsMessageResult {
    await ws.ws_message(caller, args, msgType);
  };

  public shared query ({ caller }) func ws_get_messages(args : Cdk.CanisterWsGetMessagesArguments) : async Cdk.CanisterWsGetMessagesResult {
    ws.ws_get_messages(caller, args);
  };
};
