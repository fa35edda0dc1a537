// The keys of rooms: derived by the network, encrypted to this page, opened and verified here (PROTOCOL section 7).

import { EncryptedVetKey, MasterPublicKey, TransportSecretKey } from "@dfinity/vetkeys";
import { numbers, utf8 } from "./bytes.js";

/** What the canister names in all its requests for keys. */
const CONTEXT = utf8("private-chat");

/** Opens the keys that one page asks for. */
export class KeyOpener {
  #transport;
  #public;

  /**
   * @param {Uint8Array} masterKey the network's, which the page has to know by itself: whoever could tell it another one could
   *   give it keys that they know
   * @param {Uint8Array} canister its principal
   * @param {TransportSecretKey} [transport] is made with the page, never leaves it, and is gone with it
   */
  constructor(masterKey, canister, transport = TransportSecretKey.random()) {
    this.#transport = transport;
    this.#public = MasterPublicKey.deserialize(masterKey).deriveCanisterKey(canister).deriveSubKey(CONTEXT);
  }

  /** What the canister has keys encrypted to. */
  get transportKey() {
    return this.#transport.publicKeyBytes();
  }

  /**
   * Opens the key of an epoch of a room. It throws unless it is the one that the network derives for them, whoever handed it on.
   * Scripts can use the result and cannot read it.
   */
  async open(room, epoch, encrypted) {
    const vetKey = EncryptedVetKey.deserialize(encrypted).decryptAndVerify(this.#transport, this.#public, numbers(room, epoch));
    return crypto.subtle.importKey("raw", vetKey.deriveSymmetricKey("message", 32), "AES-GCM", false, ["encrypt", "decrypt"]);
  }
}
