// Starts the demo feed, a gateway and a page, until Ctrl-C or `q`. For development only.
//
//   node examples/market-data/start.mjs [--flap]     # --flap: the feed breaks by itself, every eight seconds
//   node examples/market-data/start.mjs --check      # starts all, looks whether prices come, and ends
//
// The gateway is target/release/pulsewire, which is built if it is not there; so is the SDK. GATEWAY_BINARY names
// another. All listen on loopback: the feed on 5180, the page on 5181, the gateway on 8000; with --check on free ports.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { breakable, createFeed } from './feed.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const repository = resolve(here, '../..');
const check = process.argv.includes('--check');
const sdk = join(repository, 'sdk/typescript/client/dist/pulsewire.iife.js');
const binary = resolve(process.env.GATEWAY_BINARY ?? join(repository, 'target/release/pulsewire'));
/** How long anything may take with --check. */
const PATIENCE_MS = 60_000;

function build(command, ...parameters) {
  const { status, error } = spawnSync(command, parameters, { cwd: repository, stdio: 'inherit' });
  if (status !== 0) throw new Error(`\`${command} ${parameters.join(' ')}\` failed${error ? `: ${error.message}` : ''}`);
}

if (!existsSync(binary)) build('cargo', 'build', '--release');
if (!check && !existsSync(sdk)) {
  build('npm', '--prefix', 'sdk/typescript', 'ci');
  build('npm', '--prefix', 'sdk/typescript', 'run', 'build');
}

const folder = await mkdtemp(join(tmpdir(), 'pulsewire-market-data-'));
const feed = createFeed(check ? undefined : (line) => console.log(`feed: ${line}`));
/** Says that a port is taken, or whatever else it is. */
function cannotListen(error) {
  const taken = error.code === 'EADDRINUSE' ? `port ${error.port} is taken: is another of these running?` : error.message;
  console.error(`error: ${taken}`);
  process.exit(1);
}
const feedPort = await feed.listen(check ? 0 : 5180).catch(cannotListen);

// The settings as they stand, with the port of this feed.
const settings = join(folder, 'pulsewire.toml');
const written = await readFile(join(here, 'pulsewire.toml'), 'utf8');
await writeFile(settings, written.replace('ws://127.0.0.1:5180/', `ws://127.0.0.1:${feedPort}/`));

const gateway = spawn(
  binary,
  ['serve', '--dev', '--config', settings, '--listen', `127.0.0.1:${check ? 0 : 8000}`, '--set', `server.data_dir=${join(folder, 'data')}`],
  { cwd: repository, stdio: ['ignore', 'pipe', 'inherit'] },
);
let ended = false;

async function quit(code = 0) {
  if (ended) return;
  ended = true;
  gateway.kill();
  feed.close();
  await rm(folder, { recursive: true, force: true });
  process.exit(code);
}

process.on('SIGINT', () => quit());
process.on('SIGTERM', () => quit());
gateway.on('error', (error) => { console.error(`cannot start ${binary}: ${error.message}`); quit(1); });
gateway.on('exit', (code) => { console.error('the gateway has ended'); quit(code || 1); });

/** Where the gateway listens and what it lets in, once it has said so. */
async function listening() {
  let said = '';
  await new Promise((resolve) => {
    gateway.stdout.on('data', (part) => {
      said += said.includes('listening on http://') ? '' : part;
      if (said.includes('listening on http://')) resolve();
    });
  });
  return JSON.parse(await readFile(join(folder, 'data/dev.json'), 'utf8'));
}

const { url, token } = await listening();

if (check) {
  const timer = setTimeout(() => { console.error('it took too long'); quit(1); }, PATIENCE_MS);
  await checked().catch((error) => { console.error(error); return quit(1); });
  clearTimeout(timer);
  await quit();
} else {
  const types = { '/': ['text/html', join(here, 'index.html')], '/pulsewire.js': ['text/javascript', sdk] };
  const page = createServer(async (request, response) => {
    const [type, file] = types[new URL(request.url, 'http://page').pathname] ?? [];
    if (!file) return response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
    return response.writeHead(200, { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-store' }).end(await readFile(file));
  });
  page.on('error', cannotListen).listen(5181, '127.0.0.1', () => {
    const query = new URLSearchParams({ url: `${url.replace(/^http/, 'ws')}/ws`, token });
    console.log(`\nThe page:      http://127.0.0.1:5181/?${query}\nThe dashboard: ${url}/ with the token of this page\n`);
    const keys = breakable(feed, { flap: process.argv.includes('--flap'), log: (line) => console.log(`feed: ${line}`), quit });
    if (keys) console.log(`Break the feed, and see what the page says:\n${keys}\n`);
  });
}

/** Events of a channel, as the page gets them, over an event stream. */
async function* events(channel, stop) {
  const answer = await fetch(`${url}/api/channels/${encodeURIComponent(channel)}/sse`, { headers: { authorization: `Bearer ${token}` }, signal: stop });
  if (!answer.ok) throw new Error(`${channel}: ${answer.status} ${await answer.text()}`);
  let rest = '';
  for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
    rest += part;
    for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
      const data = rest.slice(0, end).split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trim()).join('\n');
      rest = rest.slice(end + 2);
      if (data) yield JSON.parse(data);
    }
  }
}

/** Prices of two symbols come; the feed goes down and comes back, and subscribers are told; one connection is shared. */
async function checked() {
  const stop = new AbortController();
  const symbols = ['BTC-USD', 'ETH-USD'];
  let priced = 0;
  const follow = async (symbol, wanted) => {
    const left = [...wanted];
    for await (const event of events(`upstream:market:${symbol}`, stop.signal)) {
      const what = event.event === 'upstream' ? event.data.state : event.event;
      if (what === 'trade' && !(Number(event.data.price) > 0 && event.data.symbol === symbol)) throw new Error(`not a price: ${JSON.stringify(event)}`);
      if (what !== left[0]) continue;
      console.log(`${symbol}: ${what}`);
      left.shift();
      if (what === 'trade' && left[0] === 'down' && ++priced === symbols.length) feed.down(1_000);
      if (left.length === 0) return;
    }
    throw new Error(`${symbol} ended before ${left[0]} came`);
  };
  await Promise.all(symbols.map((symbol) => follow(symbol, ['trade', 'down', 'live', 'trade'])));
  if (feed.connections() !== 1) throw new Error(`${feed.connections()} connections for two symbols: one is shared`);
  stop.abort();
  console.log('prices come, one connection is shared, and who listens is told when it breaks');
}
