// One line for one outage, however many attempts it takes to end it.

import { note } from "./log.js";

let line, why, since, countdown;

/** What a person is told of a CloseReason. */
export const words = ({ text, code }) => text || `code ${code}`;

/** A session has ended, and the next one is tried after delay milliseconds. */
export function retrying(reason, delay) {
  since ??= Date.now();
  if (reason.text || !why) why = words(reason); // the gateway's words say more than the attempts that find nobody
  line ??= note("");
  const next = Date.now() + delay;
  const left = document.createElement("span");
  left.ariaHidden = "true"; // a countdown is not read aloud
  const tell = () => (left.textContent = Date.now() < next ? ` Next attempt in ${Math.ceil((next - Date.now()) / 1000)} s.` : " Trying.");
  tell();
  clearInterval(countdown);
  countdown = setInterval(tell, 1000);
  const said = document.createElement("span");
  said.append(`Connection lost (${why}).`, left);
  line.replaceChildren(said);
}

/** There is a session again, or there will be none. */
export function over(outcome) {
  clearInterval(countdown);
  if (line) line.textContent = `Connection lost (${why}), ${outcome} after ${Math.round((Date.now() - since) / 1000)} s.`;
  line = why = since = undefined;
}
