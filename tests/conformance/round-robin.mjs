// A balancer without any memory: every request, also of one client, goes to the next server.
//
//   node round-robin.mjs PORT SERVER_PORT...

import http from 'node:http';
import net from 'node:net';

const [port, ...servers] = process.argv.slice(2).map(Number);
let turn = 0;
const next = () => servers[turn++ % servers.length];

const balancer = http.createServer((request, response) => {
  const passedOn = http.request({
    host: '127.0.0.1',
    port: next(),
    method: request.method,
    path: request.url,
    headers: request.headers,
    setHost: false,
    // A kept connection may be closed by the server in the moment in which it is used again.
    agent: false,
  });
  passedOn.on('response', (answer) => {
    response.writeHead(answer.statusCode, answer.rawHeaders);
    answer.pipe(response);
    answer.on('error', () => response.destroy());
  });
  passedOn.on('error', () => {
    if (response.headersSent) response.destroy();
    else response.writeHead(502).end();
  });
  response.on('close', () => passedOn.destroy());
  request.pipe(passedOn);
});

balancer.on('upgrade', (request, client, head) => {
  const server = net.connect({ host: '127.0.0.1', port: next(), noDelay: true });
  client.setNoDelay(true);
  let lines = `${request.method} ${request.url} HTTP/1.1\r\n`;
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    lines += `${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}\r\n`;
  }
  server.write(`${lines}\r\n`);
  server.write(head);
  server.pipe(client);
  client.pipe(server);
  for (const [one, other] of [[client, server], [server, client]]) {
    one.on('error', () => other.destroy());
    one.on('close', () => other.destroy());
  }
});

// The longest polls are the heartbeat's to end.
balancer.requestTimeout = 0;
balancer.keepAliveTimeout = 60_000;
balancer.listen(port, '127.0.0.1');
