// What a balancer does to requests and answers, seen from the other side: a server that tells.

import { createHash } from 'node:crypto';
import { createServer } from 'node:http';

const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/**
 * | path | answer |
 * |---|---|
 * | `/seen` | the headers of the request, as JSON |
 * | `/stream` | `first`, and after `proceed()` has been called `second` |
 * | `/upload` | counts bytes as they come; `uploaded()` tells |
 * | anything, as an upgrade | 101, then every byte comes back |
 */
export async function startEcho() {
  let proceed;
  const proceeded = new Promise((resolve) => { proceed = resolve; });
  let bytes = 0;
  const server = createServer(async (request, response) => {
    response.setHeader('Content-Type', 'text/plain');
    if (request.url.startsWith('/stream')) {
      response.write('first');
      await proceeded;
      response.end('second');
    } else if (request.url.startsWith('/upload')) {
      for await (const chunk of request) bytes += chunk.length;
      response.end('done');
    } else {
      response.end(JSON.stringify(request.headers));
    }
  });
  server.on('upgrade', (request, socket) => {
    const key = request.headers['sec-websocket-key'];
    const accept = createHash('sha1').update(key + WEBSOCKET_GUID).digest('base64');
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
        `Sec-WebSocket-Accept: ${accept}\r\n` +
        `X-Seen: ${request.headers.upgrade} ${request.headers['x-forwarded-for']}\r\n\r\n`,
    );
    socket.pipe(socket);
    socket.on('error', () => socket.destroy());
  });
  await new Promise((done) => { server.listen(0, '127.0.0.1', done); });
  const { port } = server.address();
  return {
    address: `127.0.0.1:${port}`, proceed, uploaded: () => bytes,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}
