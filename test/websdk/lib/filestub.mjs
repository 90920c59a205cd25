// Stands in for the file store: takes an upload, keeps nothing.
//
// A combined message is a text message with an attachment. Sending one needs
// an upload first; a client logged in by token makes no other REST call, so
// this can be its REST address while the messages go to the real server.
import { randomUUID } from 'node:crypto';
import http from 'node:http';

export async function listenFileStub() {
  const server = http.createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      response.writeHead(200, {
        'access-control-allow-origin': '*',
        'access-control-allow-headers': 'authorization, restrict-access, content-type',
        'access-control-allow-methods': 'POST',
        'content-type': 'application/json',
      });
      response.end(JSON.stringify({ entities: [{ uuid: randomUUID(), 'share-secret': 'stub' }] }));
    });
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}
