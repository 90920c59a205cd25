// Runs the official Web SDK, made for browsers, under Node: a jsdom window
// lends it WebSocket, XMLHttpRequest and localStorage.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { JSDOM } from 'jsdom';

export function loadWebSDK() {
  const file = createRequire(import.meta.url).resolve('easemob-websdk/Easemob-chat.js');
  const { window } = new JSDOM('', { url: 'http://app.example.test/', runScripts: 'outside-only' });
  window.eval(readFileSync(file, 'utf8'));
  window.WebIM.logger.disableAll();
  return window.WebIM;
}
