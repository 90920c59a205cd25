// The entry of every scenario: the server's address, fresh users, clients that
// are closed whatever happens.
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, Device } from './client.mjs';
import { PATIENCE } from './events.mjs';
import { listenFileStub } from './filestub.mjs';
import { Proxy } from './proxy.mjs';
import { Rest } from './rest.mjs';

/** How long one scenario may take, in milliseconds. */
const SCENARIO_LIMIT = 60_000;

/** Where the server is and which app to use, from the environment. */
export function settings(env = process.env) {
  const [org, app] = (env.CHAPPE_APP ?? 'demo#chat').split('#');
  const clientId = env.CHAPPE_CLIENT_ID;
  const clientSecret = env.CHAPPE_CLIENT_SECRET;
  if (!org || !app || !clientId || !clientSecret) {
    throw new Error('set CHAPPE_CLIENT_ID and CHAPPE_CLIENT_SECRET, and CHAPPE_APP as org#app (default demo#chat)');
  }
  return {
    api: env.CHAPPE_API ?? 'http://127.0.0.1:8080',
    ws: env.CHAPPE_WS ?? 'ws://127.0.0.1:8080/ws',
    org, app, clientId, clientSecret,
  };
}

/** Registers a test that gets its own World and leaves nothing open behind it. */
export function scenario(name, body) {
  test(name, { timeout: SCENARIO_LIMIT }, async (t) => {
    const world = await World.open();
    // A hook, because it also runs when the time is up and the body still hangs.
    t.after(() => world.close());
    await body(world);
  });
}

export class World {
  #settings;
  #open = [];

  static async open() {
    const world = new World();
    world.#settings = settings();
    world.rest = new Rest(world.#settings);
    await world.rest.authenticate(world.#settings.clientId, world.#settings.clientSecret);
    return world;
  }

  /** Registers `count` users nobody else uses; answers `{name, password}` each. */
  async users(count) {
    const users = Array.from({ length: count }, () => ({
      name: `w${randomBytes(7).toString('hex')}`, password: randomBytes(9).toString('hex'),
    }));
    await this.rest.register(users.map(({ name, password }) => ({ username: name, password })));
    return users;
  }

  device() {
    return new Device();
  }

  /** A client of the app that is not logged in yet. */
  client(options = {}) {
    const { ws, api, org, app } = this.#settings;
    const client = new Client({ appKey: `${org}#${app}`, url: ws, apiUrl: api, ...options });
    this.#open.push(client);
    return client;
  }

  /** A client of `user`, logged in by token. */
  async connect(user, options = {}) {
    const client = this.client(options);
    await client.login({ user: user.name, token: await this.rest.userToken(user.name) });
    return client;
  }

  /** A way to the server that can be cut. */
  async proxy() {
    return this.#keep(await Proxy.listen(this.#settings.ws));
  }

  /** A stand-in for the file store, as a REST address. */
  async fileStub() {
    return this.#keep(await listenFileStub());
  }

  /**
   * Everything `client` got of its conversation with `peer`, in order. Another
   * text of that conversation goes after it and is waited for, so that nothing
   * sent before can still be on its way, and a second copy would be seen.
   */
  async conversation(client, peer) {
    const last = `last ${randomBytes(6).toString('hex')}`;
    await this.rest.text(peer.name, client.user, last);
    await client.events.waitFor('onTextMessage', (m) => m.msg === last);
    return client.events.messages((m) => [m.from, m.to].includes(peer.name) && !m.msg?.startsWith('last '));
  }

  /** Polls until `probe` answers `wanted`: for what the server learns a moment later than the caller. */
  async until(probe, wanted, ms = PATIENCE) {
    const end = Date.now() + ms;
    for (;;) {
      const got = await probe();
      if (got === wanted) return;
      if (Date.now() > end) throw new Error(`${probe} is ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}, after ${ms} ms`);
      await delay(50);
    }
  }

  untilOnline(user) {
    return this.until(() => this.rest.status(user.name), 'online');
  }

  untilOffline(user) {
    return this.until(() => this.rest.status(user.name), 'offline');
  }

  #keep(closable) {
    this.#open.push(closable);
    return closable;
  }

  /** Closes everything that was opened, newest first. */
  async close() {
    for (const closable of this.#open.reverse()) await closable.close();
  }
}
