// A TCP proxy on the way to the server, so that a test can cut the wire.
import net from 'node:net';

export class Proxy {
  #server;
  #pairs = new Set();
  #down = false;

  /** Listens on a free loopback port; `url` is the websocket address to hand to clients. */
  static async listen(target) {
    const proxy = new Proxy();
    const { hostname, port, protocol, pathname } = new URL(target);
    proxy.#server = net.createServer((near) => proxy.#join(near, hostname, Number(port || 80)));
    await new Promise((resolve, reject) => {
      proxy.#server.once('error', reject).listen(0, '127.0.0.1', resolve);
    });
    proxy.url = `${protocol}//127.0.0.1:${proxy.#server.address().port}${pathname}`;
    return proxy;
  }

  #join(near, host, port) {
    if (this.#down) return near.resetAndDestroy();
    const far = net.connect(port, host);
    const pair = [near, far];
    this.#pairs.add(pair);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on('error', () => to.destroy());
      from.on('close', () => {
        to.destroy();
        this.#pairs.delete(pair);
      });
      from.pipe(to);
    }
    return undefined;
  }

  /** Resets every connection in both directions; new ones are taken again. */
  cut() {
    for (const pair of this.#pairs) for (const socket of pair) socket.resetAndDestroy();
  }

  /** Cuts, and refuses new connections until `up`. */
  down() {
    this.#down = true;
    this.cut();
  }

  up() {
    this.#down = false;
  }

  async close() {
    this.#down = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
