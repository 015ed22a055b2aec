import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { type Client, createClient, type WebSocketConstructor } from '@pulsewire/client';
import { Gateway, type GatewayOptions, sign } from '../../sdk/typescript/test/gateway.js';

export { Gateway, until } from '../../sdk/typescript/test/gateway.js';

const WebSocket = createRequire(import.meta.url)('ws') as WebSocketConstructor;

/** The real server with the pages as they were built just now. */
export function startServer({ set = [], ...options }: GatewayOptions = {}): Promise<Gateway> {
  return Gateway.start({ ...options, set: [`dashboard.folder=${fileURLToPath(new URL('../dist', import.meta.url))}`, ...set] });
}

/** The address of a page that signs in. */
export function signedIn(gateway: Gateway, path: string, role: 'viewer' | 'operator' | 'admin' = 'operator'): string {
  return `http://${gateway.address}${path}#token=${sign({ user: 'ada', role })}`;
}

/** A client in this process; `query` is what stands behind its address, such as `runId=42`. */
export function connect(gateway: Gateway, user: string, query = ''): Client {
  const client = createClient({ url: `ws://${gateway.address}/ws${query && `?${query}`}`, token: sign({ user, role: 'admin' }), WebSocket });
  client.connect();
  return client;
}
