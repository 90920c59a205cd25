import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

/** More than a server would put in one page. */
const MANY = 60;

scenario('what came while away is there once, in order, at the next login', async (world) => {
  const [anna, bruno, carla] = await world.users(3);
  const device = world.device();
  await (await world.connect(bruno, { device })).close();
  await world.untilOffline(bruno);

  const sender = await world.connect(anna);
  const fromAnna = [];
  for (let i = 0; i < MANY; i++) {
    const text = `anna ${i}`;
    if (i % 2) await sender.text(bruno.name, text);
    else await world.rest.text(anna.name, bruno.name, text);
    fromAnna.push(text);
  }
  const fromCarla = [];
  for (let i = 0; i < 5; i++) {
    await world.rest.text(carla.name, bruno.name, `carla ${i}`);
    fromCarla.push(`carla ${i}`);
  }
  await world.until(() => world.rest.offlineCount(bruno.name), MANY + 5);

  const back = await world.connect(bruno, { device });
  await back.events.waitFor('onOfflineMessageSyncFinish');
  const names = back.events.names();
  const [start, finish] = ['onOfflineMessageSyncStart', 'onOfflineMessageSyncFinish'].map((n) => names.indexOf(n));
  const shown = names.map((name, i) => (name === 'onTextMessage' ? i : -1)).filter((i) => i >= 0);
  assert.equal(shown.length, MANY + 5);
  assert.ok(start < shown[0] && shown.at(-1) < finish, 'every message comes between start and finish of the sync');

  assert.deepEqual((await world.conversation(back, anna)).map((m) => m.msg), fromAnna);
  assert.deepEqual((await world.conversation(back, carla)).map((m) => m.msg), fromCarla);
  for (const name of ['onOfflineMessageSyncStart', 'onOfflineMessageSyncFinish']) {
    assert.equal(back.events.all(name).length, 1, name);
  }
  await world.until(() => world.rest.offlineCount(bruno.name), 0);

  await back.close();
  await world.untilOffline(bruno);
  const again = await world.connect(bruno, { device });
  assert.deepEqual(await world.conversation(again, anna), []);
  assert.deepEqual(await world.conversation(again, carla), []);
  assert.deepEqual(again.events.all('onOfflineMessageSyncStart'), []);
});

scenario('messages wait for the first login of a user', async (world) => {
  const [anna, bruno] = await world.users(2);
  const texts = Array.from({ length: 3 }, (_, i) => `before ${i}`);
  for (const text of texts) await world.rest.text(anna.name, bruno.name, text);
  const client = await world.connect(bruno);
  assert.deepEqual((await world.conversation(client, anna)).map((m) => m.msg), texts);
});

scenario('every kind of message survives the wait', async (world) => {
  const [anna, bruno] = await world.users(2);
  const sender = await world.connect(anna);
  const ext = { n: 1, f: 0.5, b: false, o: { deep: [true] } };
  await sender.send({ type: 'txt', to: bruno.name, msg: 'text', ext });
  await sender.send({ type: 'cmd', to: bruno.name, action: 'act', ext });
  await sender.send({ type: 'custom', to: bruno.name, customEvent: 'ev', customExts: { k: 'v' }, ext });
  await sender.send({ type: 'loc', to: bruno.name, lat: 1.5, lng: -2.5, addr: 'here', buildingName: 'hut', ext });
  const client = await world.connect(bruno);
  // The SDK shows a page's messages of one kind in order, but not one kind after the other.
  const got = (await world.conversation(client, anna)).sort((a, b) => (BigInt(a.id) < BigInt(b.id) ? -1 : 1));
  assert.deepEqual(got.map((m) => m.type), ['txt', 'cmd', 'custom', 'loc']);
  for (const message of got) assert.deepEqual(message.ext, ext);
  const [text, cmd, custom, loc] = got;
  assert.equal(text.msg, 'text');
  assert.equal(cmd.action, 'act');
  assert.deepEqual([custom.customEvent, custom.customExts], ['ev', { k: 'v' }]);
  assert.deepEqual([loc.lat, loc.lng, loc.addr, loc.buildingName], [1.5, -2.5, 'here', 'hut']);
});

scenario('messages that arrive during the catch-up fall into place', async (world) => {
  const [anna, bruno] = await world.users(2);
  const device = world.device();
  await (await world.connect(bruno, { device })).close();
  await world.untilOffline(bruno);
  const texts = Array.from({ length: MANY * 2 }, (_, i) => `m${i}`);
  for (const text of texts.slice(0, MANY)) await world.rest.text(anna.name, bruno.name, text);
  // The second half is sent while the first is being fetched.
  const [back] = await Promise.all([
    world.connect(bruno, { device }),
    (async () => {
      for (const text of texts.slice(MANY)) await world.rest.text(anna.name, bruno.name, text);
    })(),
  ]);
  assert.deepEqual((await world.conversation(back, anna)).map((m) => m.msg), texts);
});
