// Redis and three nodes of the demo application.

import { connect } from 'node:net';
import { Program, freePorts, logs } from './processes.js';

export const ORIGIN = 'http://app.example';
export const MAX_PAYLOAD = 1_000_000;

/** Answers the first line that a Redis says to PING. */
function ping(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.once('data', (data) => {
      socket.destroy();
      resolve(data.toString());
    });
    socket.once('error', reject);
  });
}

export class Cluster {
  static async start() {
    const cluster = new Cluster();
    const [redisPort, ...ports] = await freePorts(4);
    cluster.redisUrl = `redis://127.0.0.1:${redisPort}`;
    cluster.redis = new Program('redis', 'redis-server', [
      '--port', `${redisPort}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', logs,
    ]);
    await cluster.redis.ready(async () => (await ping(redisPort)).startsWith('+PONG'));
    cluster.nodes = ports.map((port, i) => ({
      name: `n${i + 1}`, port, address: `127.0.0.1:${port}`,
    }));
    await Promise.all(cluster.nodes.map((node) => cluster.startNode(node)));
    return cluster;
  }

  /** Heartbeats of production: the longest silence that a balancer has to bear. */
  async startNode(node) {
    node.process = new Program(node.name, process.env.CONTRACT, [], {
      HOST: '127.0.0.1', PORT: `${node.port}`, NODE_ID: node.name, REDIS_URL: this.redisUrl,
      PING_INTERVAL: '25000', PING_TIMEOUT: '20000', CONNECT_TIMEOUT: '45000',
      UPGRADE_TIMEOUT: '10000', HEADER_TIMEOUT: '15000',
      MAX_PAYLOAD: `${MAX_PAYLOAD}`, ALLOW_ORIGIN: ORIGIN,
    });
    await node.process.ready(async () => (await fetch(`http://${node.address}/healthz`)).ok);
  }

  async stop() {
    await Promise.all(this.nodes.map((node) => node.process.stop('SIGKILL')));
    await this.redis.stop();
  }
}
