import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

scenario('sync_device gives the sender a copy of what REST sent', async (world) => {
  const [anna, bruno] = await world.users(2);
  const devices = [await world.connect(anna), await world.connect(anna)];
  const message = { from: anna.name, to: [bruno.name], type: 'txt', body: { msg: 'copied' } };
  await world.rest.send({ ...message, body: { msg: 'not copied' } });
  const ids = await world.rest.send({ ...message, sync_device: true });
  for (const client of devices) {
    const got = await client.events.waitFor('onTextMessage');
    assert.deepEqual([got.id, got.from, got.to, got.msg], [ids[bruno.name], anna.name, bruno.name, 'copied']);
  }
  const reader = await world.connect(bruno);
  assert.deepEqual((await world.conversation(reader, anna)).map((m) => m.msg), ['not copied', 'copied']);
});

scenario('an online-only message reaches who is there, and nobody later', async (world) => {
  const [anna, bruno] = await world.users(2);
  const device = world.device();
  const sender = await world.connect(anna);
  const byRest = (msg) => world.rest.send({ from: anna.name, to: [bruno.name], type: 'txt', body: { msg }, routetype: 'ROUTE_ONLINE' });

  const present = await world.connect(bruno, { device });
  await world.untilOnline(bruno);
  await byRest('REST, present');
  await present.events.waitFor('onTextMessage', (m) => m.msg === 'REST, present');
  await sender.text(bruno.name, 'client, present', { deliverOnlineOnly: true });
  await present.events.waitFor('onTextMessage', (m) => m.msg === 'client, present');
  await present.close();
  await world.untilOffline(bruno);

  assert.match((await byRest('REST, away'))[bruno.name], /^\d+$/);
  await sender.text(bruno.name, 'client, away', { deliverOnlineOnly: true });
  await sender.text(bruno.name, 'for later');
  const back = await world.connect(bruno, { device });
  assert.deepEqual((await world.conversation(back, anna)).map((m) => m.msg), ['for later']);
});
