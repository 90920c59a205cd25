import assert from 'node:assert/strict';
import { scenario } from '../lib/world.mjs';

// The SDK's error type for a send beyond a limit.
const TRAFFIC_LIMIT = 509;

// How many messages a minute the server lets each user send; without a number
// there is nothing to see here.
const limit = Number(process.env.CHAPPE_SEND_LIMIT ?? 0);

const tooMuch = async (world) => {
  const [anna, bruno] = await world.users(2);
  const [a, b] = [await world.connect(anna), await world.connect(bruno)];
  for (let i = 0; i < limit; i++) await a.text(bruno.name, `${i}`);
  for (let i = 0; i < 3; i++) await assert.rejects(a.text(bruno.name, 'too much'), { type: TRAFFIC_LIMIT });
  // What was refused is nowhere; others are not limited; what comes still does.
  await b.text(anna.name, 'go slow');
  await a.events.waitFor('onTextMessage', (m) => m.msg === 'go slow');
  await b.events.waitFor('onTextMessage', (m) => m.msg === `${limit - 1}`);
  const got = (await world.conversation(b, anna)).map((m) => m.msg);
  assert.ok(!got.includes('too much'), got.join());
};

if (limit > 0) scenario('a message beyond the limit is refused, and the connection stays', tooMuch);
