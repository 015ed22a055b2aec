// @ts-check
// Scales the canary to 0 when Alertmanager says that an alert with the label `action: rollback` fires. What is resolved, and
// what has another label, changes nothing: a canary comes back by hand.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';

const { API = 'https://kubernetes.default.svc', NAMESPACE = '', TARGET = '', TOKEN = '', PORT = '8080' } = process.env;
const { ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount' } = process.env;
const BODY_BYTES_MAX = 1 << 20;

/**
 * Whether a message of Alertmanager asks for a rollback.
 * @param {unknown} message
 */
function asksForRollback(message) {
  const { alerts = [] } = /** @type {{alerts?: {status?: string, labels?: Record<string, string>}[]}} */ (message);
  return alerts.some(({ status, labels = {} }) => status === 'firing' && labels['action'] === 'rollback');
}

/** Asks the cluster for no pods of the canary. */
async function scaleToZero() {
  const response = await fetch(`${API}/apis/apps/v1/namespaces/${NAMESPACE}/deployments/${TARGET}/scale`, {
    method: 'PATCH',
    headers: {
      // Read each time: the cluster replaces it.
      authorization: `Bearer ${(await readFile(`${ACCOUNT}/token`, 'utf8')).trim()}`,
      'content-type': 'application/merge-patch+json',
    },
    body: JSON.stringify({ spec: { replicas: 0 } }),
    signal: AbortSignal.timeout(10_000),
  });
  if (!response.ok) throw new Error(`the cluster answered ${response.status}: ${await response.text()}`);
}

/** @param {import('node:http').IncomingMessage} request */
async function body(request) {
  let text = '';
  for await (const chunk of request) {
    text += chunk;
    if (text.length > BODY_BYTES_MAX) throw new Error('the message is too large');
  }
  return JSON.parse(text);
}

/**
 * The status of the answer. Alertmanager sends a message again that is answered with 5xx.
 * @param {import('node:http').IncomingMessage} request
 */
async function answer(request) {
  if (request.url === '/healthz') return 200;
  if (request.method !== 'POST' || request.url !== '/rollback') return 404;
  if (!TOKEN || request.headers.authorization !== `Bearer ${TOKEN}`) return 401;
  const message = await body(request).catch(() => null);
  if (message === null || typeof message !== 'object') return 400;
  if (!asksForRollback(message)) return 204;
  await scaleToZero();
  console.log(`${TARGET} was scaled to 0`);
  return 200;
}

const server = createServer((request, response) => {
  answer(request)
    .catch((error) => {
      console.error(`no rollback: ${error}`);
      return 502;
    })
    .then((status) => response.writeHead(status).end());
});
server.listen(Number(PORT), () => console.log(`listening on ${JSON.stringify(server.address())}`));
// As the first process it would otherwise ignore this.
process.on('SIGTERM', () => process.exit(0));
