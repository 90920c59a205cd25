// Runs every scenario against a running server and ends with 0 only if all passed.
//
//   CHAPPE_CLIENT_ID=… CHAPPE_CLIENT_SECRET=… node verify.mjs [part of a file name …]
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { Rest } from './lib/rest.mjs';
import { settings } from './lib/world.mjs';

/** Scenario files at a time: each is a process with a few windows in it. */
const CONCURRENCY = 2;
/** How long one file may take, in milliseconds. */
const FILE_LIMIT = 300_000;

try {
  const to = settings();
  await new Rest(to).authenticate(to.clientId, to.clientSecret);
} catch (error) {
  console.error(`cannot start: ${error.message}${error.cause ? ` (${error.cause.message})` : ''}`);
  process.exit(2);
}

const folder = join(import.meta.dirname, 'scenarios');
const wanted = process.argv.slice(2);
const files = readdirSync(folder)
  .filter((name) => name.endsWith('.test.mjs') && (wanted.length === 0 || wanted.some((part) => name.includes(part))))
  .sort()
  .map((name) => join(folder, name));

run({ files, concurrency: CONCURRENCY, timeout: FILE_LIMIT })
  .on('test:fail', () => {
    process.exitCode = 1;
  })
  .compose(spec)
  .pipe(process.stdout);
