// Two members chat while a Go test looks at everything that is to be seen of it (tapped_test.go).

import assert from "node:assert/strict";
import { join, page, roomOf, test } from "./people.mjs";

test("two members chat", async () => {
  const encryption = process.env.ICWS_ENCRYPTION === "off" ? page.plain : page.sealed;
  const text = process.env.ICWS_TEXT;
  assert.ok(text);
  const [ada, bob] = await Promise.all([join({ encryption }), join({ encryption })]);
  const room = await roomOf(ada, bob);
  for (const [from, to] of [[ada, bob], [bob, ada]]) {
    for (const said of [text, `${text} ${text}`]) {
      await from.say(room, said);
      for (const who of [from, to]) {
        const heard = await who.events.take("message");
        assert.equal(heard.text, said);
        assert.equal(heard.sender, from.principal);
        assert.equal(heard.missing, 0n);
      }
    }
  }
  for (const who of [ada, bob]) assert.deepEqual(who.events.happened.filter(({ type }) => type !== "key"), []);
});
