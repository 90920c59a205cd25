import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

const REST_ERROR = 17; // the SDK's error type
const ONLINE = 1;
const OFFLINE = 0;

/** Answers whether an event, a list with one entry, tells that of `user`. */
const tells = (user, check) => (list) => list.length === 1 && list[0].userId === user.name && check(list[0]);
const statusOf = (presence, device) => presence.statusDetails.find((d) => d.device === device)?.status;
const says = (user, ext) => tells(user, (p) => p.ext === ext);

async function list(client, pageSize = 50) {
  const { result } = (await client.call('getSubscribedPresenceList', { pageNum: 1, pageSize })).data;
  return result.sublist.map((s) => s.uid).sort();
}

async function status(client, ...users) {
  const { result } = (await client.call('getPresenceStatus', { usernames: users.map((u) => u.name) })).data;
  return result.map((p) => ({ uid: p.uid, ext: p.ext, status: p.status }));
}

scenario('a subscriber sees a user come, publish and go', async (world) => {
  const [anna, bruno] = await world.users(2);
  const a = await world.connect(anna);
  const { result } = (await a.call('subscribePresence', { usernames: [bruno.name], expiry: 600 })).data;
  assert.deepEqual(result.map((p) => [p.uid, p.ext, p.status, p.last_time]), [[bruno.name, '', [], '0']]);
  assert.ok(Math.abs(Number(result[0].expiry) - (Date.now() / 1000 + 600)) < 60, result[0].expiry);

  const b = await world.connect(bruno);
  const [came] = await a.events.waitFor('onPresenceStatusChange', tells(bruno, (p) => statusOf(p, b.resource) === ONLINE));
  assert.ok(came.lastTime > 0);
  await b.call('publishPresence', { description: 'at lunch, "ü" 猫' });
  const [published] = await a.events.waitFor('onPresenceStatusChange', says(bruno, 'at lunch, "ü" 猫'));
  assert.equal(statusOf(published, b.resource), ONLINE);
  assert.deepEqual(await status(a, bruno, anna), [
    { uid: bruno.name, ext: 'at lunch, "ü" 猫', status: { [b.resource]: '1' } },
    { uid: anna.name, ext: '', status: { [a.resource]: '1' } },
  ]);
  await b.close();
  const [went] = await a.events.waitFor('onPresenceStatusChange', tells(bruno, (p) => statusOf(p, b.resource) === OFFLINE));
  assert.equal(went.ext, 'at lunch, "ü" 猫');
});

scenario('a subscriber sees each device of a user', async (world) => {
  const [anna, bruno] = await world.users(2);
  const a = await world.connect(anna);
  await a.call('subscribePresence', { usernames: [bruno.name], expiry: 600 });
  const [phone, desk] = [await world.connect(bruno), await world.connect(bruno)];
  const both = (p) => [phone, desk].every((c) => statusOf(p, c.resource) === ONLINE);
  await a.events.waitFor('onPresenceStatusChange', tells(bruno, both));
  phone.destroy(); // no logout: the page is just gone
  const oneLeft = (p) => statusOf(p, phone.resource) === OFFLINE && statusOf(p, desk.resource) === ONLINE;
  await a.events.waitFor('onPresenceStatusChange', tells(bruno, oneLeft));
});

scenario('all devices of a subscriber are told, and not the one who is watched', async (world) => {
  const [anna, bruno] = await world.users(2);
  const watchers = [await world.connect(anna), await world.connect(anna)];
  const b = await world.connect(bruno);
  await watchers[0].call('subscribePresence', { usernames: [bruno.name], expiry: 600 });
  await b.call('publishPresence', { description: 'here' });
  for (const w of watchers) await w.events.waitFor('onPresenceStatusChange', says(bruno, 'here'));
  assert.deepEqual(b.events.all('onPresenceStatusChange'), []);
});

scenario('who has unsubscribed is told no more', async (world) => {
  const [anna, bruno, carla] = await world.users(3);
  const [a, c] = [await world.connect(anna), await world.connect(carla)];
  const b = await world.connect(bruno);
  await a.call('subscribePresence', { usernames: [bruno.name, carla.name], expiry: 600 });
  await c.call('subscribePresence', { usernames: [bruno.name], expiry: 600 });
  assert.deepEqual(await list(a), [bruno.name, carla.name].sort());
  await a.call('unsubscribePresence', { usernames: [bruno.name] });
  assert.deepEqual(await list(a), [carla.name]);
  await silent(b, bruno, a, c);
});

scenario('a subscription ends when its time is over', async (world) => {
  const [anna, bruno, carla] = await world.users(3);
  const [a, c] = [await world.connect(anna), await world.connect(carla)];
  const b = await world.connect(bruno);
  await c.call('subscribePresence', { usernames: [bruno.name], expiry: 600 });
  await a.call('subscribePresence', { usernames: [bruno.name], expiry: 1 });
  await world.until(async () => (await list(a)).length, 0);
  await silent(b, bruno, a, c);
});

/**
 * Publishes for `user`, whom `watcher` follows and `former` does not any more.
 * The watcher's event shows that subscribers were told; then `former` follows
 * again, and what it is told first must be the next thing published.
 */
async function silent(client, user, former, watcher) {
  await client.call('publishPresence', { description: 'unseen' });
  await watcher.events.waitFor('onPresenceStatusChange', says(user, 'unseen'));
  await former.call('subscribePresence', { usernames: [user.name], expiry: 600 });
  await client.call('publishPresence', { description: 'seen' });
  await former.events.waitFor('onPresenceStatusChange', says(user, 'seen'));
  assert.ok(!former.events.all('onPresenceStatusChange').some(says(user, 'unseen')), 'told without a subscription');
}

scenario('a renewed subscription takes the place of the old one', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [a, b] = [await world.connect(anna), await world.connect(bruno)];
  const subscribe = async (expiry) => {
    const { result } = (await a.call('subscribePresence', { usernames: [bruno.name], expiry })).data;
    return Number(result[0].expiry);
  };
  const [short, long] = [await subscribe(60), await subscribe(6000)];
  assert.ok(long - short > 5000, `${short} ${long}`);
  assert.deepEqual(await list(a), [bruno.name]);
  await b.call('publishPresence', { description: 'once' });
  await a.events.waitFor('onPresenceStatusChange', says(bruno, 'once'));
  await b.call('publishPresence', { description: 'twice' });
  await a.events.waitFor('onPresenceStatusChange', says(bruno, 'twice'));
  assert.equal(a.events.all('onPresenceStatusChange').filter(says(bruno, 'once')).length, 1);
});

scenario('what makes no sense is refused', async (world) => {
  const [anna] = await world.users(1);
  const client = await world.connect(anna);
  const many = Array.from({ length: 101 }, (_, i) => `user-${i}`);
  const yourself = client.call('subscribePresence', { usernames: [anna.name], expiry: 600 });
  await assert.rejects(yourself, { type: REST_ERROR, message: /sub yourself/ });
  await assert.rejects(client.call('subscribePresence', { usernames: many, expiry: 600 }), { type: REST_ERROR, message: /too many/ });
  await assert.rejects(client.call('subscribePresence', { usernames: ['someone'], expiry: 2_592_001 }), { type: REST_ERROR });
  await assert.rejects(client.call('publishPresence', { description: 'x'.repeat(1025) }), { type: REST_ERROR, message: /too big/ });
});
