// Records what a client reports and lets a test wait for it.

/** How long a test waits for something that must happen, in milliseconds. */
export const PATIENCE = Number(process.env.CHAPPE_PATIENCE_MS ?? 15_000);

/** The kinds of message a person sees or an app acts on, by the SDK's event. */
export const MESSAGE_EVENTS = [
  'onTextMessage', 'onCmdMessage', 'onCustomMessage', 'onLocationMessage', 'onCombineMessage',
  'onImageMessage', 'onAudioMessage', 'onVideoMessage', 'onFileMessage',
];

const OTHER_EVENTS = [
  'onConnected', 'onDisconnected', 'onReconnecting', 'onOnline', 'onOffline', 'onError',
  'onReceivedMessage', 'onDeliveredMessage', 'onReadMessage', 'onChannelMessage', 'onRecallMessage',
  'onModifiedMessage', 'onOfflineMessageSyncStart', 'onOfflineMessageSyncFinish',
  'onTokenWillExpire', 'onTokenExpired', 'onMultiDeviceEvent', 'onPresenceStatusChange',
  'onContactInvited', 'onContactAgreed', 'onContactRefuse', 'onContactAdded', 'onContactDeleted',
  'onGroupEvent', 'onChatroomEvent',
];

export class EventLog {
  #entries = [];
  #waiting = new Set();

  /** The handler table for `connection.addEventHandler`. */
  handlers() {
    const table = {};
    for (const name of [...MESSAGE_EVENTS, ...OTHER_EVENTS]) {
      table[name] = (value) => this.#add({ name, value: detach(value) });
    }
    return table;
  }

  #add(entry) {
    this.#entries.push(entry);
    for (const waiter of [...this.#waiting]) waiter(entry);
  }

  /** The values of every event of that name so far, oldest first. */
  all(name) {
    return this.#entries.filter((e) => e.name === name).map((e) => e.value);
  }

  /** Names in the order in which they came. */
  names() {
    return this.#entries.map((e) => e.name);
  }

  /** Messages of every kind in the order of arrival. */
  messages(accept = () => true) {
    return this.#entries.filter((e) => MESSAGE_EVENTS.includes(e.name)).map((e) => e.value).filter(accept);
  }

  /** Resolves with the first event, past or to come, that `accept` takes. */
  waitFor(name, accept = () => true, ms = PATIENCE) {
    const past = this.#entries.find((e) => e.name === name && accept(e.value));
    if (past) return Promise.resolve(past.value);
    return this.#wait((e) => e.name === name && accept(e.value), (e) => e.value, ms, `${name} ${accept}`);
  }

  /** Resolves with the messages that `accept` takes as soon as there are `count` of them. */
  async waitForMessages(count, accept = () => true, ms = PATIENCE) {
    const enough = () => this.messages(accept).length >= count;
    if (!enough()) await this.#wait(enough, () => undefined, ms, `${count} messages`);
    return this.messages(accept);
  }

  #wait(accept, result, ms, what) {
    return new Promise((resolve, reject) => {
      const waiter = (entry) => {
        if (!accept(entry)) return;
        clearTimeout(timer);
        this.#waiting.delete(waiter);
        resolve(result(entry));
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(waiter);
        reject(new Error(`no ${what} within ${ms} ms; seen: ${this.#describe()}`));
      }, ms);
      this.#waiting.add(waiter);
    });
  }

  #describe() {
    return this.#entries.slice(-40)
      .map((e) => (MESSAGE_EVENTS.includes(e.name) ? `${e.name}(${e.value.id} ${e.value.from}>${e.value.to})`
        : e.name === 'onError' ? `onError(${e.value?.type} ${e.value?.message})` : e.name))
      .join(', ') || 'nothing';
  }
}

/**
 * Values made in the window have that window's prototypes, which strict
 * comparison refuses; a copy has this realm's.
 */
export function detach(value) {
  try {
    return structuredClone(value);
  } catch {
    return value; // holds a function: an error object of the SDK
  }
}
