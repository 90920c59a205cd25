// The calls of an app's back end, with the app's token.

export class RestError extends Error {
  constructor(call, status, body) {
    super(`${call}: ${status} ${JSON.stringify(body)}`);
    this.status = status;
    this.body = body;
  }
}

export class Rest {
  #base;
  #token;

  constructor({ api, org, app }) {
    this.#base = `${api}/${org}/${app}`;
  }

  /** Fetches the app token that later calls carry. */
  async authenticate(clientId, clientSecret) {
    const body = { grant_type: 'client_credentials', client_id: clientId, client_secret: clientSecret };
    this.#token = (await this.call('POST', '/token', body)).access_token;
  }

  /** Answers the decoded body; throws RestError for any status but 200. */
  async call(method, path, body) {
    const headers = {};
    if (this.#token) headers.authorization = `Bearer ${this.#token}`;
    if (body !== undefined) headers['content-type'] = 'application/json';
    const response = await fetch(this.#base + path, { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    let decoded;
    try {
      decoded = JSON.parse(text);
    } catch {
      throw new RestError(`${method} ${path}`, response.status, text);
    }
    if (response.status !== 200) throw new RestError(`${method} ${path}`, response.status, decoded);
    return decoded;
  }

  register(users) {
    return this.call('POST', '/users', users);
  }

  /** A user's token without the password, for `ttl` seconds or for as long as the app's tokens are good. */
  async userToken(username, ttl) {
    return (await this.call('POST', '/token', { grant_type: 'inherit', username, ttl })).access_token;
  }

  async passwordToken(username, password) {
    return (await this.call('POST', '/token', { grant_type: 'password', username, password })).access_token;
  }

  /** Sends to users; answers the map of target to message ID. */
  async send(message) {
    return (await this.call('POST', '/messages/users', message)).data;
  }

  /** Sends one text to one user; answers its message ID. */
  async text(from, to, msg, ext) {
    return (await this.send({ from, to: [to], type: 'txt', body: { msg }, ext }))[to];
  }

  async status(username) {
    return (await this.call('GET', `/users/${username}/status`)).data[username];
  }

  async offlineCount(username) {
    return (await this.call('GET', `/users/${username}/offline_msg_count`)).data[username];
  }

  addContact(owner, friend) {
    return this.call('POST', `/users/${owner}/contacts/users/${friend}`);
  }

  removeContact(owner, friend) {
    return this.call('DELETE', `/users/${owner}/contacts/users/${friend}`);
  }

  async contacts(username) {
    return (await this.call('GET', `/users/${username}/contacts/users`)).data;
  }

  disconnect(username, resource) {
    return this.call('GET', `/users/${username}/disconnect${resource ? `/${resource}` : ''}`);
  }

  setPassword(username, newpassword) {
    return this.call('PUT', `/users/${username}/password`, { newpassword });
  }

  deleteUser(username) {
    return this.call('DELETE', `/users/${username}`);
  }
}
