import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

const texts = (messages) => messages.map((m) => m.msg);

/** Resolves when the client has been connected `count` times in all. */
const connected = (world, client, count) => world.until(async () => client.events.all('onConnected').length >= count, true);

scenario('a lost socket comes back by itself and the gap is filled', async (world) => {
  const [anna, bruno] = await world.users(2);
  const wire = await world.proxy();
  const client = await world.connect(bruno, { url: wire.url, delivery: true });
  await world.rest.text(anna.name, bruno.name, 'before');
  await client.events.waitFor('onTextMessage');
  const { resource } = client;

  wire.down();
  await client.events.waitFor('onReconnecting');
  await world.untilOffline(bruno);
  const missed = Array.from({ length: 20 }, (_, i) => `missed ${i}`);
  for (const text of missed) await world.rest.text(anna.name, bruno.name, text);
  wire.up();

  await connected(world, client, 2);
  assert.deepEqual(texts(await world.conversation(client, anna)), ['before', ...missed]);
  assert.equal(client.resource, resource);
  await client.text(anna.name, 'I am back');
});

scenario('cut again and again under traffic, everything arrives once, in order', async (world) => {
  const [anna, bruno] = await world.users(2);
  const wire = await world.proxy();
  const client = await world.connect(bruno, { url: wire.url, delivery: true });
  const sent = [];
  let sending = true;
  const traffic = (async () => {
    for (let i = 0; sending; i++) {
      await world.rest.text(anna.name, bruno.name, `n${i}`);
      sent.push(`n${i}`);
      // Paced by what the client shows, so that cuts fall between messages, not after them all.
      if (i % 10 === 9) await client.events.waitFor('onTextMessage', (m) => m.msg === `n${i}`);
    }
  })();
  for (let cut = 1; cut <= 4; cut++) {
    const shown = client.messages.length;
    await client.events.waitForMessages(shown + 3);
    wire.cut();
    await connected(world, client, cut + 1);
  }
  sending = false;
  await traffic;
  assert.deepEqual(texts(await world.conversation(client, anna)), sent);
});

scenario('a client cut off in the middle of its catch-up gets the rest', async (world) => {
  const [anna, bruno] = await world.users(2);
  const device = world.device();
  await (await world.connect(bruno, { device })).close();
  await world.untilOffline(bruno);
  const missed = Array.from({ length: 80 }, (_, i) => `missed ${i}`);
  for (const text of missed) await world.rest.text(anna.name, bruno.name, text);
  const wire = await world.proxy();
  const client = await world.connect(bruno, { url: wire.url, device });
  await client.events.waitForMessages(1);
  wire.cut();
  await connected(world, client, 2);
  assert.deepEqual(texts(await world.conversation(client, anna)), missed);
});

scenario('a second connection of the same device takes the place of the first', async (world) => {
  const [anna, bruno] = await world.users(2);
  const device = world.device();
  const wire = await world.proxy();
  const first = await world.connect(bruno, { url: wire.url, device });
  await world.rest.text(anna.name, bruno.name, 'one');
  await first.events.waitFor('onTextMessage');
  // The page is gone without a word: the server may still hold the old socket.
  first.destroy();
  const second = await world.connect(bruno, { device });
  assert.equal(second.resource, first.resource);
  await world.rest.text(anna.name, bruno.name, 'two');
  const got = texts(await world.conversation(second, anna));
  // 'one' may come again when its confirmation was on the wire as the page went.
  assert.deepEqual(got.filter((text) => text !== 'one'), ['two']);
  assert.equal(await world.rest.status(bruno.name), 'online');
});
