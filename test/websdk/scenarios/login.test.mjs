import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

// The SDK's error types.
const OPEN_ERROR = 1;
const TOKEN_REFUSED = 28;

scenario('login with a password', async (world) => {
  const [anna] = await world.users(1);
  const client = world.client();
  const { accessToken } = await client.login({ user: anna.name, pwd: anna.password });
  assert.ok(accessToken.length > 0);
  await client.events.waitFor('onConnected');
  await world.rest.text('admin', anna.name, 'welcome');
  const got = await client.events.waitFor('onTextMessage');
  assert.deepEqual([got.from, got.to, got.msg], ['admin', anna.name, 'welcome']);
});

scenario('login with a token', async (world) => {
  const [anna] = await world.users(1);
  const client = world.client();
  const token = await world.rest.passwordToken(anna.name, anna.password);
  const result = await client.login({ user: anna.name, token });
  assert.equal(result.accessToken, token);
  await client.events.waitFor('onConnected');
});

scenario('a user ID in other case is the same user', async (world) => {
  const [anna] = await world.users(1);
  const client = world.client();
  await client.login({ user: anna.name, pwd: anna.password });
  await world.rest.text('admin', anna.name.toUpperCase(), 'hello');
  const got = await client.events.waitFor('onTextMessage');
  assert.equal(got.to, anna.name);
});

scenario('a wrong password is refused', async (world) => {
  const [anna] = await world.users(1);
  const client = world.client();
  const refused = { type: OPEN_ERROR, message: /password/ };
  await assert.rejects(client.login({ user: anna.name, pwd: 'not it' }), refused);
  await assert.rejects(client.login({ user: `${anna.name}x`, pwd: anna.password }), { type: OPEN_ERROR });
  // The same connection object may try again.
  await client.login({ user: anna.name, pwd: anna.password });
  await client.events.waitFor('onConnected');
});

scenario('a wrong token is refused', async (world) => {
  const [anna] = await world.users(1);
  await assert.rejects(world.client().login({ user: anna.name, token: 'YWMtnot-a-token' }), { type: TOKEN_REFUSED });
  assert.equal(await world.rest.status(anna.name), 'offline');
});

scenario("another user's token is refused", async (world) => {
  const [anna, eve] = await world.users(2);
  const token = await world.rest.userToken(eve.name);
  await assert.rejects(world.client().login({ user: anna.name, token }), { type: TOKEN_REFUSED });
  assert.equal(await world.rest.status(anna.name), 'offline');
  assert.equal(await world.rest.status(eve.name), 'offline');
});

scenario('online state follows connections', async (world) => {
  const [anna] = await world.users(1);
  assert.equal(await world.rest.status(anna.name), 'offline');
  const first = await world.connect(anna);
  await world.untilOnline(anna);
  const second = await world.connect(anna);
  await first.close();
  assert.equal(await world.rest.status(anna.name), 'online');
  second.destroy(); // no logout: the page is just gone
  await world.untilOffline(anna);
});
