import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

// The SDK's error types.
const BLOCKED_BY_RECEIVER = 603;
const USER_NOT_FOUND = 204;

/** What sending ends in: 'sent', or the SDK's error type. */
const outcome = (client, to, msg) => client.text(to, msg).then(() => 'sent', (error) => error.type);

scenario('whom a user has blocked cannot send to them, until unblocked', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [a, b] = [await world.connect(anna), await world.connect(bruno)];
  await b.text(anna.name, 'before');
  const { data } = await a.call('addUsersToBlocklist', { name: [bruno.name] });
  assert.deepEqual(data.userIds, [bruno.name]);
  assert.deepEqual((await a.call('getBlocklist')).data, [bruno.name]);
  await world.until(() => outcome(b, anna.name, 'tried until it is known'), BLOCKED_BY_RECEIVER);
  await assert.rejects(b.text(anna.name, 'blocked'), { type: BLOCKED_BY_RECEIVER });
  // Block lists are for devices: a back end may send for them.
  assert.match(await world.rest.text(bruno.name, anna.name, 'sent by REST'), /^\d+$/);

  // The other way is open: only the list's owner is protected.
  await a.text(bruno.name, 'you are blocked');
  await b.events.waitFor('onTextMessage', (m) => m.msg === 'you are blocked');

  await a.call('removeUserFromBlocklist', { name: bruno.name });
  assert.deepEqual((await a.call('getBlocklist')).data, []);
  await world.until(() => outcome(b, anna.name, 'after'), 'sent');
  const got = (await world.conversation(a, bruno)).map((m) => m.msg);
  assert.deepEqual(got.filter((msg) => !msg.startsWith('tried')), ['before', 'sent by REST', 'after']);
});

scenario('a block list takes several at a time, all or none', async (world) => {
  const [anna, bruno, carla, dario] = await world.users(4);
  const client = await world.connect(anna);
  await client.call('addUsersToBlocklist', { name: [bruno.name, carla.name] });
  await client.call('addUsersToBlocklist', { name: dario.name });
  const list = async () => (await client.call('getBlocklist')).data.toSorted();
  assert.deepEqual(await list(), [bruno, carla, dario].map((u) => u.name).sort());
  await assert.rejects(client.call('addUsersToBlocklist', { name: [`${anna.name}x`] }), { type: USER_NOT_FOUND });
  await assert.rejects(client.call('removeUserFromBlocklist', { name: [bruno.name, `${anna.name}x`] }), { type: USER_NOT_FOUND });
  assert.equal((await list()).length, 3);
  await client.call('removeUserFromBlocklist', { name: [bruno.name, dario.name] });
  assert.deepEqual(await list(), [carla.name]);
});

scenario('a friend who is blocked stays a friend, and a blocked user asks in vain', async (world) => {
  const [anna, bruno, carla, dario] = await world.users(4);
  await world.rest.addContact(anna.name, bruno.name);
  const a = await world.connect(anna);
  await a.call('addUsersToBlocklist', { name: [bruno.name, carla.name] });
  assert.deepEqual((await a.call('getContacts')).data, [bruno.name]);
  const c = await world.connect(carla);
  await c.call('addContact', anna.name, 'let me in');
  await (await world.connect(dario)).call('addContact', anna.name, 'and me');
  await a.events.waitFor('onContactInvited', (e) => e.from === dario.name);
  assert.equal(a.events.all('onContactInvited').length, 1);
  await assert.rejects(a.call('acceptContactInvite', carla.name), { type: USER_NOT_FOUND });
});
