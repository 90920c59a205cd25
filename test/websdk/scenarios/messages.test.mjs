import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

/** One value of every type that ext can carry. */
const EXT = {
  text: 'grüße, 世界 🌍',
  empty: '',
  whole: 42,
  negative: -7,
  large: 9_007_199_254_740_991,
  fraction: 1.25,
  yes: true,
  no: false,
  object: { a: 1, nested: { list: [1, 'two', null, false] } },
  array: ['x', 2, { y: 3 }],
};

/** What the sender wrote and the reader must see, by the event that shows it. */
const KINDS = [
  ['onTextMessage', { type: 'txt', msg: 'good day, 今日は 👋\n\tand a second line' }],
  ['onCmdMessage', { type: 'cmd', action: 'refresh' }],
  ['onCustomMessage', { type: 'custom', customEvent: 'order/paid', customExts: { order: 'A-17', note: 'ünïcode' } }],
  ['onLocationMessage', { type: 'loc', lat: 52.5163, lng: 13.3777, addr: 'Pariser Platz', buildingName: 'Brandenburger Tor' }],
];

scenario('every kind of message from client to client, both ways, with ext', async (world) => {
  const [anna, bruno] = await world.users(2);
  const ends = [await world.connect(anna), await world.connect(bruno)];
  for (const [sender, receiver] of [ends, [...ends].reverse()]) {
    for (const [event, message] of KINDS) {
      const before = Date.now();
      const { serverMsgId } = await sender.send({ ...message, to: receiver.user, ext: EXT });
      assert.match(serverMsgId, /^\d+$/);
      const got = await receiver.events.waitFor(event, (m) => m.id === serverMsgId);
      for (const [field, value] of Object.entries(message)) assert.deepEqual(got[field], value, `${message.type} ${field}`);
      assert.deepEqual(got.ext, EXT);
      assert.deepEqual([got.from, got.to, got.chatType], [sender.user, receiver.user, 'singleChat']);
      assert.ok(Math.abs(got.time - before) < 60_000, `time ${got.time} is not now`);
    }
  }
  assert.deepEqual((await world.conversation(ends[0], bruno)).length, KINDS.length);
  assert.deepEqual((await world.conversation(ends[1], anna)).length, KINDS.length);
});

scenario('every kind of message from REST to a client', async (world) => {
  const [anna, bruno] = await world.users(2);
  const client = await world.connect(bruno);
  const bodies = [
    ['onTextMessage', 'txt', { msg: 'see you at 9' }, { msg: 'see you at 9' }],
    ['onCmdMessage', 'cmd', { action: 'refresh' }, { action: 'refresh' }],
    ['onCustomMessage', 'custom', { customEvent: 'order/paid', customExts: { order: 'A-17' } },
      { customEvent: 'order/paid', customExts: { order: 'A-17' } }],
    ['onLocationMessage', 'loc', { lat: '52.5163', lng: 13.3777, addr: 'Pariser Platz' },
      { lat: 52.5163, lng: 13.3777, addr: 'Pariser Platz' }],
  ];
  for (const [event, type, body, shown] of bodies) {
    const ids = await world.rest.send({ from: anna.name, to: [bruno.name], type, body, ext: EXT });
    const got = await client.events.waitFor(event, (m) => m.id === ids[bruno.name]);
    for (const [field, value] of Object.entries(shown)) assert.deepEqual(got[field], value, `${type} ${field}`);
    assert.deepEqual(got.ext, EXT);
    assert.deepEqual([got.from, got.to, got.chatType], [anna.name, bruno.name, 'singleChat']);
  }
  assert.equal((await world.conversation(client, anna)).length, bodies.length);
});

scenario('one REST call to many users', async (world) => {
  const readers = await world.users(5);
  const clients = await Promise.all(readers.map((user) => world.connect(user)));
  const ids = await world.rest.send({ to: readers.map((u) => u.name), type: 'txt', body: { msg: 'to all' } });
  assert.equal(new Set(Object.values(ids)).size, readers.length, 'each target has its own ID');
  for (const client of clients) {
    const got = await client.events.waitFor('onTextMessage');
    assert.deepEqual([got.id, got.from, got.msg], [ids[client.user], 'admin', 'to all']);
  }
});

scenario('a burst of sends without waiting arrives once, in order', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [sender, receiver] = [await world.connect(anna), await world.connect(bruno)];
  const texts = Array.from({ length: 100 }, (_, i) => `burst ${i}`);
  const sent = await Promise.all(texts.map((text) => sender.text(bruno.name, text)));
  await receiver.events.waitForMessages(texts.length);
  const got = await world.conversation(receiver, anna);
  assert.deepEqual(got.map((m) => m.msg), texts);
  assert.deepEqual(got.map((m) => m.id), sent.map((s) => s.serverMsgId));
  const ids = got.map((m) => BigInt(m.id));
  assert.ok(ids.every((id, i) => i === 0 || id > ids[i - 1]), 'IDs grow within a conversation');
});

scenario('both ends writing at once lose nothing', async (world) => {
  const [anna, bruno] = await world.users(2);
  // Without delivery acks: the SDK numbers those and texts apart, and two in flight with one number block each other.
  const [a, b] = [await world.connect(anna), await world.connect(bruno)];
  const numbers = Array.from({ length: 40 }, (_, i) => i);
  await Promise.all(numbers.flatMap((i) => [a.text(bruno.name, `a${i}`), b.text(anna.name, `b${i}`)]));
  assert.deepEqual((await world.conversation(a, bruno)).map((m) => m.msg), numbers.map((i) => `b${i}`));
  assert.deepEqual((await world.conversation(b, anna)).map((m) => m.msg), numbers.map((i) => `a${i}`));
});

scenario('a combined message stays one, a plain text does not become one', async (world) => {
  const [anna, bruno] = await world.users(2);
  const files = await world.fileStub();
  const sender = await world.connect(anna, { apiUrl: files.url });
  const receiver = await world.connect(bruno);
  const parts = ['one', 'two'].map((msg) => ({ ...sender.build({ type: 'txt', to: bruno.name, msg }), from: anna.name }));
  const { serverMsgId } = await sender.send({
    type: 'combine', to: bruno.name, title: 'Two messages', summary: 'one, two',
    compatibleText: 'your app cannot show this', messageList: parts,
  });
  const got = await receiver.events.waitFor('onCombineMessage');
  assert.equal(got.id, serverMsgId);
  assert.deepEqual(
    [got.title, got.summary, got.compatibleText, got.combineLevel, got.secret],
    ['Two messages', 'one, two', 'your app cannot show this', 1, 'stub'],
  );
  assert.match(got.url, /\/chatfiles\/[0-9a-f-]{36}/);

  await sender.text(bruno.name, 'plain');
  await receiver.events.waitFor('onTextMessage', (m) => m.msg === 'plain');
  await world.rest.text(anna.name, bruno.name, 'plain by REST');
  await receiver.events.waitFor('onTextMessage', (m) => m.msg === 'plain by REST');
  assert.equal(receiver.events.all('onCombineMessage').length, 1);
});

scenario('the sender shown is the one who logged in', async (world) => {
  const [anna, bruno, eve] = await world.users(3);
  const [forger, receiver] = [await world.connect(eve), await world.connect(bruno)];
  forger.forgeSender(anna.name);
  const { serverMsgId } = await forger.text(bruno.name, 'I am Anna');
  const got = await receiver.events.waitFor('onTextMessage');
  assert.deepEqual([got.id, got.from], [serverMsgId, eve.name]);
});

scenario('text of 5,120 bytes passes, of 5,121 is refused', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [sender, receiver] = [await world.connect(anna), await world.connect(bruno)];
  const refused = { type: 511, message: 'Sorry, data is too large' };
  const fits = ['a'.repeat(5120), 'é'.repeat(2560), '🌍'.repeat(1280)];
  for (const text of fits) {
    await sender.text(bruno.name, text);
    await assert.rejects(sender.text(bruno.name, `${text}!`), refused);
  }
  const got = await world.conversation(receiver, anna);
  assert.equal(got.length, fits.length);
  fits.forEach((text, i) => assert.ok(got[i].msg === text, `text ${i} came back different`));
});
