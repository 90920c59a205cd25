// One logged-in SDK client in its own window.
import { setTimeout as delay } from 'node:timers/promises';
import { openWindow, storageOf } from './browser.mjs';
import { detach, EventLog } from './events.mjs';

/** How long a close may take to be reported before the window goes anyway, in milliseconds. */
const CLOSE_GRACE = 3_000;

/**
 * A device is what survives between two visits of a page: localStorage, where
 * the SDK keeps the name under which the server knows this device.
 */
export class Device {
  storage = {};
}

export class Client {
  events = new EventLog();
  /** Errors that the window reported instead of throwing. */
  problems = [];
  #window;
  #conn;
  #device;
  #closed = false;

  /**
   * Makes a window and a connection object, without logging in. Options beyond
   * those named go to the SDK's constructor as they are.
   */
  constructor({ appKey, url, apiUrl, device = new Device(), ...options }) {
    this.#device = device;
    this.#window = openWindow(device.storage, this.problems);
    this.#conn = new this.#window.WebIM.connection({ appKey, url, apiUrl, isHttpDNS: false, ...options });
    this.#handleRejectedAcks();
    this.#conn.addEventHandler('chappe-test', this.events.handlers());
  }

  /** Logs in with `{user, pwd}` or `{user, token}`; rejects with the SDK's error. */
  async login({ user, pwd, token }) {
    this.user = user;
    const result = await this.#conn.open(token === undefined ? { user, pwd } : { user, accessToken: token });
    // Kept now: a client that is cut off has no later moment to do it.
    this.#device.storage = storageOf(this.#window);
    return result;
  }

  /** The name under which the server knows this device. */
  get resource() {
    return this.#conn.clientResource || JSON.parse(this.#device.storage.localDeviceInfo ?? '{}').deviceId;
  }

  /** The SDK's REST calls: answers what the method of that name resolves with, or rejects with its error. */
  async call(method, ...args) {
    return detach(await this.#conn[method](...args));
  }

  get connected() {
    return this.#conn.isOpened();
  }

  get messages() {
    return this.events.messages();
  }

  /** Sends a message built by the SDK; resolves with `{localMsgId, serverMsgId}` or rejects with its error. */
  send(message) {
    return this.#conn.send(this.build(message));
  }

  /** A message object of the SDK, not sent. */
  build(message) {
    return this.#window.WebIM.message.create({ chatType: 'singleChat', ...message });
  }

  text(to, msg, more = {}) {
    return this.send({ type: 'txt', to, msg, ...more });
  }

  /** Tells the sender of `message` that it was read. */
  acknowledgeRead(message) {
    return this.send({ type: 'read', id: message.id, to: message.from });
  }

  /** Tells the other side of a conversation that all of it was read. */
  acknowledgeConversation(to) {
    return this.send({ type: 'channel', to });
  }

  /** From now on the messages this client makes name `user` as their sender. */
  forgeSender(user) {
    this.#conn.context.jid.name = user;
  }

  /** Logs out, if logged in, and takes the window down with all its timers and sockets. */
  async close() {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#conn.isOpened()) {
      const gone = this.events.waitFor('onDisconnected', undefined, CLOSE_GRACE).catch(() => {});
      this.#conn.close();
      await gone;
    }
    this.destroy();
  }

  /** Takes the window down without a word to the server, as a crashed page does. */
  destroy() {
    this.#closed = true;
    this.#conn.logOut = true; // or a pending reconnect would outlive the window
    this.#window.close();
  }

  /** Resolves after `ms` if the client stays out of reach of the server all that time. */
  async staysDisconnected(ms) {
    const before = this.events.all('onConnected').length;
    await delay(ms);
    if (this.connected || this.events.all('onConnected').length > before) {
      throw new Error(`client ${this.user} came back: ${this.events.names()}`);
    }
  }

  /**
   * The SDK sends delivery acks on its own and does not look at the outcome;
   * when a connection is lost they are rejected. A page ignores that, Node
   * ends the process. Callers still see the rejection of their own sends.
   */
  #handleRejectedAcks() {
    const send = this.#conn.send.bind(this.#conn);
    this.#conn.send = (message) => {
      const sent = send(message);
      sent.catch(() => {});
      return sent;
    };
  }
}
