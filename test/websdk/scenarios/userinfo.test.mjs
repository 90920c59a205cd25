import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

const PERMISSION_DENIED = 603; // what the SDK makes of a 403

const profile = {
  nickname: 'Anna & Söhne = 猫', avatarurl: 'https://cdn.example.test/a.png?x=1&y=2', mail: 'anna@example.test', phone: '+49 30 1234',
  gender: '2', sign: 'semper: "idem"', birth: '2000-01-01', ext: '{"team":"a+b"}',
};

scenario('what a user says about themselves, others read', async (world) => {
  const [anna, bruno, carla] = await world.users(3);
  const client = await world.connect(anna);
  assert.deepEqual((await client.call('updateUserInfo', profile)).data, profile);
  await client.call('updateUserInfo', 'sign', 'changed');
  const wanted = { ...profile, sign: 'changed' };

  const other = await world.connect(bruno);
  const { data } = await other.call('fetchUserInfoById', [anna.name, carla.name, `${anna.name}x`]);
  assert.deepEqual(data, { [anna.name]: wanted, [carla.name]: {}, [`${anna.name}x`]: {} });

  const some = await other.call('fetchUserInfoById', anna.name, ['nickname', 'gender']);
  assert.deepEqual(some.data[anna.name], { nickname: profile.nickname, gender: '2' });
});

scenario('too much user info is refused and changes nothing', async (world) => {
  const [anna] = await world.users(1);
  const client = await world.connect(anna);
  await client.call('updateUserInfo', { nickname: 'Anna' });
  await assert.rejects(client.call('updateUserInfo', { nickname: 'Other', ext: 'x'.repeat(2048) }), { type: PERMISSION_DENIED });
  const { data } = await client.call('fetchUserInfoById', anna.name);
  assert.deepEqual(data[anna.name], { nickname: 'Anna' });
});

scenario('the push nickname and token are stored', async (world) => {
  const [anna] = await world.users(1);
  const client = await world.connect(anna);
  await client.call('updateCurrentUserNick', 'Anna for push');
  await client.call('uploadPushToken', { deviceId: 'dev-1', deviceToken: 'dt-0001', notifierName: 'fcm' });
  const [user] = (await world.rest.call('GET', `/users/${anna.name}`)).entities;
  assert.deepEqual([user.nickname, user.device_token, user.notifier_name], ['Anna for push', 'dt-0001', 'fcm']);
});

scenario('a device finds the other devices of its user', async (world) => {
  const [anna] = await world.users(1);
  const [phone, desk] = [await world.connect(anna), await world.connect(anna)];
  assert.deepEqual((await phone.call('getSelfIdsOnOtherPlatform')).data, [`${anna.name}/${desk.resource}`]);
  await phone.close();
  await world.until(async () => (await desk.call('getSelfIdsOnOtherPlatform')).data.length, 0);
});

scenario('a client with a renewed token stays beyond the end of the old one', async (world) => {
  const [anna] = await world.users(1);
  const old = await world.rest.userToken(anna.name, 4);
  const client = world.client();
  await client.login({ user: anna.name, token: old });
  const fresh = await world.rest.userToken(anna.name, 3600);
  const renewed = await client.call('renewToken', fresh);
  assert.deepEqual([renewed.status, renewed.token], [true, fresh]);
  assert.ok(Math.abs(renewed.expire - (Date.now() + 3_600_000)) < 60_000, `${renewed.expire}`);
  // The server ends what the old token began, and takes the client back with the new one.
  await client.events.waitFor('onReconnecting');
  await world.until(() => client.events.all('onConnected').length, 2);
  await world.rest.text('admin', anna.name, 'still there');
  await client.events.waitFor('onTextMessage', (m) => m.msg === 'still there');
  assert.deepEqual(client.events.all('onTokenExpired'), []);
});
