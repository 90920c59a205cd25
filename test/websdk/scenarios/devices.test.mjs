import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

const texts = (messages) => messages.map((m) => m.msg);

scenario('two devices of a user both get everything, and what the other one sent', async (world) => {
  const [anna, bruno] = await world.users(2);
  const phone = await world.connect(anna);
  const desk = await world.connect(anna);
  const peer = await world.connect(bruno);
  assert.notEqual(phone.resource, desk.resource);

  const fromPeer = await peer.text(anna.name, 'hello Anna');
  const fromPhone = await phone.text(bruno.name, 'from the phone');
  const fromDesk = await desk.text(bruno.name, 'from the desk');
  const byRest = await world.rest.text(bruno.name, anna.name, 'by REST');

  const ids = (messages) => messages.map((m) => m.id);
  const atPhone = await world.conversation(phone, bruno);
  const atDesk = await world.conversation(desk, bruno);
  assert.deepEqual(ids(atPhone), [fromPeer.serverMsgId, fromDesk.serverMsgId, byRest]);
  assert.deepEqual(ids(atDesk), [fromPeer.serverMsgId, fromPhone.serverMsgId, byRest]);
  const copy = atDesk[1];
  assert.deepEqual([copy.from, copy.to, copy.msg, copy.chatType], [anna.name, bruno.name, 'from the phone', 'singleChat']);
  assert.deepEqual(texts(await world.conversation(peer, anna)), ['from the phone', 'from the desk']);
});

scenario('a device that was away gets copies of what the other one sent', async (world) => {
  const [anna, bruno] = await world.users(2);
  const device = world.device();
  const phone = await world.connect(anna);
  const desk = await world.connect(anna, { device });
  await desk.close();
  const sent = [];
  for (let i = 0; i < 3; i++) sent.push((await phone.text(bruno.name, `note ${i}`)).serverMsgId);
  await world.rest.text(bruno.name, anna.name, 'answer');
  const back = await world.connect(anna, { device });
  const got = await world.conversation(back, bruno);
  assert.deepEqual(texts(got), ['note 0', 'note 1', 'note 2', 'answer']);
  assert.deepEqual(got.slice(0, 3).map((m) => m.id), sent);
});

scenario('a new device starts where the others are, an old one where it was', async (world) => {
  const [anna, bruno] = await world.users(2);
  const device = world.device();
  const old = await world.connect(anna, { device });
  await world.rest.text(bruno.name, anna.name, 'seen before');
  await old.events.waitFor('onTextMessage');
  await world.until(() => world.rest.offlineCount(anna.name), 0);
  await old.close();
  await world.untilOffline(anna);
  const missed = ['missed 0', 'missed 1'];
  for (const text of missed) await world.rest.text(bruno.name, anna.name, text);

  const fresh = await world.connect(anna);
  assert.deepEqual(texts(await world.conversation(fresh, bruno)), missed);
  // The other device has fetched and confirmed them; this one has not had them yet.
  const back = await world.connect(anna, { device });
  assert.notEqual(fresh.resource, back.resource);
  assert.deepEqual(texts(await world.conversation(back, bruno)), missed);
});

scenario('one read on one device does not take the message from the other', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [phone, desk] = [await world.connect(anna, { delivery: true }), await world.connect(anna, { delivery: true })];
  const peer = await world.connect(bruno);
  const { serverMsgId } = await peer.text(anna.name, 'for both');
  await phone.acknowledgeRead(await phone.events.waitFor('onTextMessage'));
  assert.equal((await peer.events.waitFor('onReadMessage')).mid, serverMsgId);
  assert.deepEqual(texts(await world.conversation(desk, bruno)), ['for both']);
  assert.deepEqual(texts(await world.conversation(phone, bruno)), ['for both']);
});
