// Who the person at this tab is: a key of the tab's own, or whoever has logged in with Internet Identity.

import { AuthClient } from "@icp-sdk/auth/client";
import { Secp256k1KeyIdentity } from "@icp-sdk/core/identity/secp256k1";
import { generateRandomIdentity } from "@icws-gateway/client";

/** How long a login lasts, in nanoseconds: a working day. */
const LIFE = 8n * 3_600_000_000_000n;

/**
 * The identity of this tab, which a reload keeps and another tab does not have. It protects no more than a name here; one
 * that protects something belongs where no script can read its key, as AuthClient keeps it.
 */
function tabIdentity() {
  const kept = sessionStorage.getItem("identity");
  if (kept) return Secp256k1KeyIdentity.fromJSON(kept);
  const fresh = generateRandomIdentity();
  sessionStorage.setItem("identity", JSON.stringify(fresh));
  return fresh;
}

/**
 * @param {string} [identityProvider] where Internet Identity asks for a login, as https://id.ai/authorize; without, nobody can log in
 * @returns identity; canLogIn; isLoggedIn(), false again when the login has expired; logIn(), to be called in a click; logOut()
 */
export async function account(identityProvider) {
  // A reader is not idle: no logout after ten minutes without a click.
  const auth = identityProvider && new AuthClient({ identityProvider, idleOptions: { disableIdle: true } });
  const isLoggedIn = () => Boolean(auth?.isAuthenticated());
  return {
    identity: isLoggedIn() ? await auth.getIdentity() : tabIdentity(),
    canLogIn: Boolean(auth),
    isLoggedIn,
    logIn: () => auth.signIn({ maxTimeToLive: LIFE }),
    logOut: () => auth.signOut(),
  };
}
