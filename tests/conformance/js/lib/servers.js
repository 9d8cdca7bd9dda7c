// Where the servers under test listen. `run.sh` starts them and fills the environment in.

function url(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run tests/conformance/run.sh`);
  return value.replace(/\/$/, '');
}

export const servers = {
  /** Default settings. */
  main: url('CONTRACT_URL'),
  /** PING_INTERVAL=300 with a patient PING_TIMEOUT: what lives through it keeps the heartbeat. */
  heartbeat: url('CONTRACT_HEARTBEAT_URL'),
  /** Every deadline short and MAX_PAYLOAD small: what must end, ends quickly. */
  tight: url('CONTRACT_TIGHT_URL'),
};

/** The settings of the `tight` server, as `run.sh` starts it. */
export const tight = {
  pingInterval: Number(process.env.TIGHT_PING_INTERVAL ?? 300),
  pingTimeout: Number(process.env.TIGHT_PING_TIMEOUT ?? 200),
  connectTimeout: Number(process.env.TIGHT_CONNECT_TIMEOUT ?? 350),
  upgradeTimeout: Number(process.env.TIGHT_UPGRADE_TIMEOUT ?? 300),
  headerTimeout: Number(process.env.TIGHT_HEADER_TIMEOUT ?? 500),
  maxPayload: Number(process.env.TIGHT_MAX_PAYLOAD ?? 20000),
};

export const allowedOrigin = process.env.ALLOW_ORIGIN ?? 'http://app.example';

let counter = 0;

/** A namespace nobody else uses, so that tests running side by side do not hear each other. */
export function freshNamespace() {
  counter += 1;
  return `/dyn-${process.pid}${String(counter).padStart(5, '0')}`;
}
