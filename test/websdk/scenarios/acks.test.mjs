import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

scenario('a delivery ack reaches the sender', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [sender, receiver] = [await world.connect(anna), await world.connect(bruno, { delivery: true })];
  const { serverMsgId, localMsgId } = await sender.text(bruno.name, 'are you there?');
  const ack = await sender.events.waitFor('onDeliveredMessage');
  assert.deepEqual([ack.mid, ack.from, ack.to], [serverMsgId, bruno.name, anna.name]);
  const stored = await sender.events.waitFor('onReceivedMessage');
  assert.deepEqual([stored.id, stored.mid], [localMsgId, serverMsgId]);
  assert.equal(receiver.messages.length, 1);
});

scenario('each of many messages is acknowledged once', async (world) => {
  const [anna, bruno] = await world.users(2);
  const sender = await world.connect(anna);
  await world.connect(bruno, { delivery: true });
  const sent = await Promise.all(Array.from({ length: 30 }, (_, i) => sender.text(bruno.name, `n${i}`)));
  for (const { serverMsgId } of sent) await sender.events.waitFor('onDeliveredMessage', (a) => a.mid === serverMsgId);
  await world.conversation(sender, bruno);
  assert.deepEqual(sender.events.all('onDeliveredMessage').map((a) => a.mid).sort(), sent.map((s) => s.serverMsgId).sort());
});

scenario('no delivery ack unless the receiver wants to send them', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [sender, receiver] = [await world.connect(anna), await world.connect(bruno)];
  await sender.text(bruno.name, 'quiet');
  await world.conversation(receiver, anna);
  await world.conversation(sender, bruno);
  assert.deepEqual(sender.events.all('onDeliveredMessage'), []);
});

scenario('a read ack reaches the sender', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [sender, receiver] = [await world.connect(anna), await world.connect(bruno)];
  const { serverMsgId } = await sender.text(bruno.name, 'read me');
  await receiver.acknowledgeRead(await receiver.events.waitFor('onTextMessage'));
  const ack = await sender.events.waitFor('onReadMessage');
  assert.deepEqual([ack.mid, ack.from, ack.to], [serverMsgId, bruno.name, anna.name]);
  assert.equal(ack.groupReadCount, undefined);
});

scenario('a conversation ack reaches the other side', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [sender, receiver] = [await world.connect(anna), await world.connect(bruno)];
  await sender.text(bruno.name, 'one');
  await sender.text(bruno.name, 'two');
  await receiver.events.waitForMessages(2);
  await receiver.acknowledgeConversation(anna.name);
  const ack = await sender.events.waitFor('onChannelMessage');
  assert.deepEqual([ack.from, ack.to], [bruno.name, anna.name]);
});

scenario('acks wait for a sender who is away', async (world) => {
  const [anna, bruno] = await world.users(2);
  const device = world.device();
  const before = await world.connect(anna, { device });
  const { serverMsgId } = await before.text(bruno.name, 'I am leaving');
  await before.close();
  await world.untilOffline(anna);
  const receiver = await world.connect(bruno, { delivery: true });
  await receiver.acknowledgeRead(await receiver.events.waitFor('onTextMessage'));
  const after = await world.connect(anna, { device });
  assert.equal((await after.events.waitFor('onDeliveredMessage')).mid, serverMsgId);
  assert.equal((await after.events.waitFor('onReadMessage')).mid, serverMsgId);
});
