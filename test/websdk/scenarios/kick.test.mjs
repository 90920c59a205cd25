import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

// The SDK's error types.
const OPEN_ERROR = 1;
const TOKEN_REFUSED = 28;
const TOKEN_EXPIRED = 56;
const UNKNOWN_USER = 204;
const USER_REMOVED = 207;
const PASSWORD_CHANGED = 216;
const KICKED = 217;

/** A client that lost its connection tries again after one to two seconds. */
const LONGER_THAN_A_RECONNECT = 2_500;

/** Every one of these types makes the SDK ask its user to log in again. */
const oneOf = (...types) => (error) => types.includes(error.type);

/** The client is told why, the socket is closed, and the client stays out. */
async function isPutOut(client, type) {
  assert.equal((await client.events.waitFor('onDisconnected'))?.type, type);
  assert.deepEqual(client.events.all('onError').map((e) => e.type), [type]);
  await client.staysDisconnected(LONGER_THAN_A_RECONNECT);
  assert.deepEqual(client.events.all('onReconnecting'), []);
}

/**
 * A client that is done with the exchange after its login. The SDK has a gap
 * there: when a kick and the end of the socket reach it together while it is
 * about to send, it logs in again.
 */
async function settledClient(world, user) {
  const client = await world.connect(user);
  await world.conversation(client, { name: 'admin' });
  return client;
}

scenario('force offline puts every device out, and back in at the next login', async (world) => {
  const [anna] = await world.users(1);
  const clients = [await settledClient(world, anna), await settledClient(world, anna)];
  assert.equal((await world.rest.disconnect(anna.name)).data.result, true);
  await Promise.all(clients.map((client) => isPutOut(client, KICKED)));
  await world.untilOffline(anna);
  const again = await world.connect(anna);
  await world.rest.text('admin', anna.name, 'welcome back');
  await again.events.waitFor('onTextMessage', (m) => m.msg === 'welcome back');
});

scenario('force offline of one device leaves the others', async (world) => {
  const [anna] = await world.users(1);
  const [phone, desk] = [await settledClient(world, anna), await settledClient(world, anna)];
  await world.rest.disconnect(anna.name, phone.resource);
  await isPutOut(phone, KICKED);
  await world.rest.text('admin', anna.name, 'still here?');
  await desk.events.waitFor('onTextMessage', (m) => m.msg === 'still here?');
  assert.equal(await world.rest.status(anna.name), 'online');
});

scenario('a changed password puts the user out and ends old tokens', async (world) => {
  const [anna] = await world.users(1);
  const token = await world.rest.passwordToken(anna.name, anna.password);
  const client = await settledClient(world, anna);
  await world.rest.setPassword(anna.name, 'another-1');
  await isPutOut(client, PASSWORD_CHANGED);
  await assert.rejects(world.client().login({ user: anna.name, token }), oneOf(TOKEN_REFUSED, TOKEN_EXPIRED));
  await assert.rejects(world.client().login({ user: anna.name, pwd: anna.password }), { type: OPEN_ERROR });
  await world.client().login({ user: anna.name, pwd: 'another-1' });
});

scenario('a deleted user is put out and cannot come back', async (world) => {
  const [anna] = await world.users(1);
  const token = await world.rest.passwordToken(anna.name, anna.password);
  const client = await settledClient(world, anna);
  await world.rest.deleteUser(anna.name);
  await isPutOut(client, USER_REMOVED);
  await assert.rejects(world.client().login({ user: anna.name, token }), oneOf(TOKEN_REFUSED, TOKEN_EXPIRED, UNKNOWN_USER));
  await assert.rejects(world.client().login({ user: anna.name, pwd: anna.password }), { type: OPEN_ERROR });
  await assert.rejects(world.rest.status(anna.name), { status: 404 });
});
