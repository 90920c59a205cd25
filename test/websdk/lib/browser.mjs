// A browser window for one SDK client: jsdom with the SDK evaluated in it.
//
// The SDK file is run as published. What a page would lend it (WebSocket,
// XMLHttpRequest with its cross-origin rules, localStorage, FormData) comes
// from jsdom, so the server under test also has to answer preflights.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import vm from 'node:vm';
import { JSDOM, VirtualConsole } from 'jsdom';

const sdkPath = createRequire(import.meta.url).resolve('easemob-websdk/Easemob-chat.js');
// Compiled once per process: 600 KB of source for every window adds up.
const sdk = new vm.Script(readFileSync(sdkPath, 'utf8'), { filename: sdkPath });

/** The page's address: another origin than the server's, as with a real app. */
const PAGE = 'http://app.example.test/';

/**
 * Opens a window with `storage` as the content of localStorage. `problems`
 * receives every error that the window reports instead of throwing.
 */
export function openWindow(storage, problems) {
  const virtualConsole = new VirtualConsole();
  virtualConsole.on('jsdomError', (error) => problems.push(error));
  const dom = new JSDOM('<!doctype html>', { url: PAGE, runScripts: 'outside-only', virtualConsole });
  const { window } = dom;
  // The one thing the SDK needs that jsdom has not; it never reads the address back.
  window.URL.createObjectURL = () => 'blob:chappe-test';
  for (const [key, value] of Object.entries(storage)) window.localStorage.setItem(key, value);
  sdk.runInContext(dom.getInternalVMContext());
  window.WebIM.logger.disableAll();
  return window;
}

/** What localStorage holds now, so that the next window can be the same device. */
export function storageOf(window) {
  const { localStorage } = window;
  const entries = {};
  for (let i = 0; i < localStorage.length; i++) {
    const key = localStorage.key(i);
    entries[key] = localStorage.getItem(key);
  }
  return entries;
}
