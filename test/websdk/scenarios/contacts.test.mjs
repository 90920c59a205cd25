import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

// The SDK's error types.
const REST_ERROR = 17;
const USER_NOT_FOUND = 204;

/** What a contact event says: of whom, to whom, with which words. */
const facts = ({ type, from, to, status }) => [type, from, to, status];

scenario('a user asks, the other accepts: both have a friend, and all devices know', async (world) => {
  const [anna, bruno, carla] = await world.users(3);
  const [asker, asker2] = [await world.connect(anna), await world.connect(anna)];
  const [asked, asked2] = [await world.connect(bruno), await world.connect(bruno)];

  await asker.call('addContact', bruno.name, 'from the choir – „Grüße“');
  for (const client of [asked, asked2]) {
    const invited = await client.events.waitFor('onContactInvited');
    assert.deepEqual(facts(invited), ['subscribe', anna.name, bruno.name, 'from the choir – „Grüße“']);
  }
  assert.deepEqual((await asker.call('getContacts')).data, []);

  await asked.call('acceptContactInvite', anna.name);
  for (const client of [asker, asker2]) {
    assert.deepEqual(facts(await client.events.waitFor('onContactAgreed')), ['subscribed', bruno.name, anna.name, '']);
  }
  assert.deepEqual(facts(await asked2.events.waitFor('onContactAdded')), ['subscribed', anna.name, bruno.name, '']);
  assert.deepEqual((await asker.call('getContacts')).data, [bruno.name]);
  assert.deepEqual((await asked.call('getContacts')).data, [anna.name]);

  await asked.call('acceptContactInvite', anna.name); // once more does no harm
  await (await world.connect(carla)).call('addContact', bruno.name, 'me too');
  await asked.events.waitFor('onContactInvited', (e) => e.from === carla.name);
  assert.deepEqual(asked.events.all('onContactAdded'), [], 'the device that accepted knows');
  assert.equal(asked.events.all('onContactInvited').length, 2);
});

scenario('a user asks, the other declines: the asker hears of it, and nobody has a friend', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [asker, asked] = [await world.connect(anna), await world.connect(bruno)];
  await asker.call('addContact', bruno.name, '');
  await asked.events.waitFor('onContactInvited', (e) => e.from === anna.name);
  await asked.call('declineContactInvite', anna.name);
  assert.deepEqual(facts(await asker.events.waitFor('onContactRefuse')), ['unsubscribed', bruno.name, anna.name, '']);
  assert.deepEqual((await asker.call('getContacts')).data, []);
  await assert.rejects(asked.call('acceptContactInvite', anna.name), { type: USER_NOT_FOUND }, 'the request is answered');
  assert.deepEqual((await asked.call('getContacts')).data, []);
});

scenario('asking again after a refusal reaches the other again', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [asker, asked] = [await world.connect(anna), await world.connect(bruno)];
  for (const reason of ['please', 'pretty please']) {
    await asker.call('addContact', bruno.name, reason);
    await asked.events.waitFor('onContactInvited', (e) => e.status === reason);
    if (reason === 'please') await asked.call('declineContactInvite', anna.name);
  }
  await asked.call('acceptContactInvite', anna.name);
  await asker.events.waitFor('onContactAgreed');
  assert.equal(asker.events.all('onContactRefuse').length, 1);
});

scenario('who removes a friend loses them on both sides', async (world) => {
  const [anna, bruno, carla] = await world.users(3);
  await world.rest.addContact(anna.name, bruno.name);
  const [phone, desk] = [await world.connect(anna), await world.connect(anna)];
  const other = await world.connect(bruno);
  await phone.call('deleteContact', bruno.name);
  assert.deepEqual(facts(await other.events.waitFor('onContactDeleted')), ['unsubscribed', anna.name, bruno.name, '']);
  assert.deepEqual(facts(await desk.events.waitFor('onContactDeleted')), ['unsubscribed', bruno.name, anna.name, '']);
  assert.deepEqual((await phone.call('getContacts')).data, []);
  assert.deepEqual((await other.call('getContacts')).data, []);
  await phone.call('deleteContact', bruno.name); // nobody to remove any more
  await world.rest.addContact(anna.name, carla.name);
  await phone.events.waitFor('onContactAdded', (e) => e.from === carla.name);
  assert.deepEqual(phone.events.all('onContactDeleted'), [], 'the device that did it knows');
});

scenario('what a back end changes, clients hear of', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [a, b] = [await world.connect(anna), await world.connect(bruno)];
  await world.rest.addContact(anna.name, bruno.name);
  assert.deepEqual(facts(await a.events.waitFor('onContactAdded')), ['subscribed', bruno.name, anna.name, '']);
  assert.deepEqual(facts(await b.events.waitFor('onContactAdded')), ['subscribed', anna.name, bruno.name, '']);
  assert.deepEqual((await a.call('getContacts')).data, [bruno.name]);
  await world.rest.removeContact(bruno.name, anna.name);
  await a.events.waitFor('onContactDeleted', (e) => e.from === bruno.name);
  await b.events.waitFor('onContactDeleted', (e) => e.from === anna.name);
});

/** Logs `user` in on `device` and out again. */
async function visit(world, user, device) {
  await (await world.connect(user, { device })).close();
  await world.untilOffline(user);
}

/** Fails unless `client` was told exactly `wanted` of `name` up to a text that `peer` sends now. */
async function told(world, client, peer, name, wanted) {
  await world.conversation(client, peer);
  assert.deepEqual(client.events.all(name).map(facts), wanted);
}

scenario('a request waits for the next login, on every device, once', async (world) => {
  const [anna, bruno] = await world.users(2);
  const [phone, desk] = [world.device(), world.device()];
  await visit(world, bruno, phone);
  await visit(world, bruno, desk);
  const asker = await world.connect(anna);
  await asker.call('addContact', bruno.name, 'from the choir – „Grüße“');
  const invitation = ['subscribe', anna.name, bruno.name, 'from the choir – „Grüße“'];

  for (const device of [phone, desk]) {
    const client = await world.connect(bruno, { device });
    await client.events.waitFor('onContactInvited');
    await told(world, client, anna, 'onContactInvited', [invitation]);
    await client.close();
    await world.untilOffline(bruno);
  }
  const again = await world.connect(bruno, { device: phone });
  await told(world, again, anna, 'onContactInvited', []);
  assert.deepEqual((await again.call('getContacts')).data, []);
  await again.call('acceptContactInvite', anna.name);
  await asker.events.waitFor('onContactAgreed', (e) => e.from === bruno.name);
  await told(world, asker, bruno, 'onContactAgreed', [['subscribed', bruno.name, anna.name, '']]);
});

scenario('a request waits for the first login of a user, and is no message', async (world) => {
  const [anna, bruno] = await world.users(2);
  await (await world.connect(anna)).call('addContact', bruno.name, 'hello');
  await world.rest.text(anna.name, bruno.name, 'a message');
  await world.until(() => world.rest.offlineCount(bruno.name), 1);
  const client = await world.connect(bruno);
  await client.events.waitFor('onContactInvited', (e) => e.from === anna.name && e.status === 'hello');
  assert.deepEqual((await world.conversation(client, anna)).map((m) => m.msg), ['a message']);
  assert.equal(client.events.all('onContactInvited').length, 1);
});

scenario('the answer waits for the asker, and so does the end of a friendship', async (world) => {
  const [anna, bruno, carla] = await world.users(3);
  const device = world.device();
  const asker = await world.connect(anna, { device });
  await asker.call('addContact', bruno.name, 'please');
  await asker.call('addContact', carla.name, 'please');
  await asker.close();
  await world.untilOffline(anna);

  const [b, c] = [await world.connect(bruno), await world.connect(carla)];
  await b.events.waitFor('onContactInvited');
  await c.events.waitFor('onContactInvited');
  await b.call('acceptContactInvite', anna.name);
  await c.call('declineContactInvite', anna.name);
  const back = await world.connect(anna, { device });
  await back.events.waitFor('onContactAgreed');
  await back.events.waitFor('onContactRefuse');
  await told(world, back, bruno, 'onContactAgreed', [['subscribed', bruno.name, anna.name, '']]);
  await told(world, back, carla, 'onContactRefuse', [['unsubscribed', carla.name, anna.name, '']]);
  assert.deepEqual((await back.call('getContacts')).data, [bruno.name]);
  await back.close();
  await world.untilOffline(anna);

  await b.call('deleteContact', anna.name);
  const third = await world.connect(anna, { device });
  await third.events.waitFor('onContactDeleted');
  await told(world, third, bruno, 'onContactDeleted', [['unsubscribed', bruno.name, anna.name, '']]);
  for (const name of ['onContactAgreed', 'onContactRefuse']) assert.deepEqual(third.events.all(name), [], name);
});

scenario('contact events come in order, with the messages between them', async (world) => {
  const [anna, bruno] = await world.users(2);
  const asker = await world.connect(anna);
  const reasons = ['one', 'two', 'three'];
  for (const reason of reasons) {
    await asker.call('addContact', bruno.name, reason);
    await world.rest.text(anna.name, bruno.name, `after ${reason}`);
  }
  const client = await world.connect(bruno);
  assert.deepEqual((await world.conversation(client, anna)).map((m) => m.msg), reasons.map((r) => `after ${r}`));
  assert.deepEqual(client.events.all('onContactInvited').map((e) => e.status), reasons);
});

scenario('remarks are read back with the friends, all at once and in pages', async (world) => {
  const [anna, ...friends] = await world.users(6);
  for (const friend of friends) await world.rest.addContact(anna.name, friend.name);
  const client = await world.connect(anna);
  await client.call('setContactRemark', { userId: friends[1].name, remark: 'Brüderchen 猫' });
  await client.call('setContactRemark', { userId: friends[3].name, remark: 'gone soon' });
  await client.call('setContactRemark', { userId: friends[3].name, remark: '' });
  const newestFirst = friends.toReversed().map(({ name }) => ({ userId: name, remark: name === friends[1].name ? 'Brüderchen 猫' : '' }));
  const plain = (list) => list.map(({ userId, remark }) => ({ userId, remark }));
  assert.deepEqual(plain((await client.call('getAllContacts')).data), newestFirst);

  const paged = [];
  const sizes = [];
  let cursor = '';
  do {
    const { data } = await client.call('getContactsWithCursor', { pageSize: 2, cursor });
    paged.push(...plain(data.contacts));
    sizes.push(data.contacts.length);
    cursor = data.cursor;
  } while (cursor);
  assert.deepEqual(paged, newestFirst);
  assert.deepEqual(sizes, [2, 2, 1]);

  const stranger = (await world.users(1))[0];
  await assert.rejects(client.call('setContactRemark', { userId: stranger.name, remark: 'who?' }), { type: REST_ERROR, message: /not friends/ });
  await assert.rejects(client.call('setContactRemark', { userId: friends[0].name, remark: 'x'.repeat(101) }), { type: REST_ERROR });
  // The other side sees nothing of it.
  const friend = await world.connect(friends[1]);
  assert.deepEqual(plain((await friend.call('getAllContacts')).data), [{ userId: anna.name, remark: '' }]);
});

scenario('nobody can be asked who is not there, and nobody asks themselves', async (world) => {
  const [anna] = await world.users(1);
  const client = await world.connect(anna);
  await assert.rejects(client.call('addContact', `${anna.name}x`, ''), { type: USER_NOT_FOUND });
  await assert.rejects(client.call('addContact', anna.name, ''), { type: REST_ERROR });
  await assert.rejects(client.call('acceptContactInvite', `${anna.name}x`), { type: USER_NOT_FOUND });
});
