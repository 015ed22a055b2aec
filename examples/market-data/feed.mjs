// A feed of made-up prices over WebSocket (RFC 6455), with nothing but Node. It can break on purpose.
//
//   node examples/market-data/feed.mjs [--port 5180] [--flap]
//
// It says trades of the symbols that a connection asked for, each numbered one by one. Keys break it (see `faults`);
// with --flap it breaks by itself every eight seconds, each time in another way.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const MAGIC = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'; // RFC 6455 §1.3
/** A request is short: whoever sends more is cut off. */
const MESSAGE_BYTES_MAX = 64 * 1024;
const SYMBOLS_MAX = 1_000;
const TRADE_EVERY_MS = 250;
const SYMBOL = /^[A-Za-z0-9._-]{1,32}$/;

/** An unmasked frame; `first` is its whole first byte. */
function frame(first, payload) {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = first;
  head[1] = length < 126 ? length : length < 65_536 ? 126 : 127;
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, payload]);
}

/** The frame at the beginning of some bytes, or undefined until it is whole. Clients mask every frame (RFC 6455 §5.3). */
function parse(bytes) {
  if (bytes.length < 2) return undefined;
  const short = bytes[1] & 0x7f;
  const at = short === 126 ? 4 : short === 127 ? 10 : 2;
  if (bytes.length < at) return undefined;
  const length = at === 4 ? bytes.readUInt16BE(2) : at === 10 ? Number(bytes.readBigUInt64BE(2)) : short;
  if ((bytes[1] & 0x80) === 0 || (bytes[0] & 0x80) === 0 || length > MESSAGE_BYTES_MAX) throw new Error('not a frame of a client');
  if (bytes.length < at + 4 + length) return undefined;
  const mask = bytes.subarray(at, at + 4);
  const payload = Buffer.from(bytes.subarray(at + 4, at + 4 + length));
  for (let index = 0; index < length; index++) payload[index] ^= mask[index & 3];
  return { opcode: bytes[0] & 0x0f, payload, used: at + 4 + length };
}

/** Prices that walk at random, and whose trades are numbered. */
class Market {
  #symbols = new Map();

  trade(symbol) {
    const now = this.#symbols.get(symbol) ?? { price: 10 ** (1 + Math.random() * 3), n: 0 };
    now.price *= 1 + (Math.random() - 0.5) / 500;
    now.n += 1;
    this.#symbols.set(symbol, now);
    const size = (Math.random() * 2).toFixed(4);
    return JSON.stringify({ type: 'trade', symbol, n: now.n, price: now.price.toFixed(2), size, at: Date.now() });
  }

  /** Five trades of each symbol that nobody hears of. */
  skip() {
    for (const now of this.#symbols.values()) now.n += 5;
  }
}

/** The feed. `listen(port)` gives the port; `faults` are what it can do wrong, by the key that does it. */
export function createFeed(log = () => {}) {
  const market = new Market();
  const connections = new Set();
  let silentUntil = 0;
  let port = 0;
  let server = start();

  function start() {
    const http = createServer((_, response) => response.writeHead(426).end('a WebSocket is expected\n'));
    http.on('upgrade', (request, socket) => {
      const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}${MAGIC}`).digest('base64');
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
      const connection = { socket, symbols: new Set() };
      connections.add(connection);
      log(`connected: ${connections.size}`);
      let bytes = Buffer.alloc(0);
      socket.setNoDelay(true);
      socket.on('data', (more) => {
        try {
          bytes = Buffer.concat([bytes, more]);
          for (let next = parse(bytes); next; next = parse(bytes)) {
            bytes = bytes.subarray(next.used);
            hear(connection, next);
          }
        } catch (error) {
          log(`cut off: ${error.message}`);
          socket.destroy();
        }
      });
      socket.on('error', () => {});
      socket.on('close', () => {
        connections.delete(connection);
        log(`connected: ${connections.size}`);
      });
    });
    return http;
  }

  function hear({ socket, symbols }, { opcode, payload }) {
    if (opcode === 8) return socket.end(frame(0x88, payload.subarray(0, 2)));
    if (opcode === 9) return socket.write(frame(0x8a, payload));
    if (opcode !== 1) return undefined;
    const { op, symbols: asked, id } = JSON.parse(payload.toString());
    const good = Array.isArray(asked) && asked.length <= SYMBOLS_MAX && asked.every((symbol) => SYMBOL.test(symbol));
    if (!good || !['subscribe', 'unsubscribe'].includes(op)) return socket.write(say({ op: 'error', id, message: 'expected op and symbols' }));
    for (const symbol of asked) op === 'subscribe' && symbols.size < SYMBOLS_MAX ? symbols.add(symbol) : symbols.delete(symbol);
    log(`${op}: ${asked.join(', ')}`);
    return socket.write(say({ op: `${op}d`, id, symbols: [...symbols] }));
  }

  const say = (message) => frame(0x81, Buffer.from(typeof message === 'string' ? message : JSON.stringify(message)));
  const cut = () => connections.forEach(({ socket }) => socket.destroy());

  const trading = setInterval(() => {
    if (Date.now() < silentUntil) return;
    const wanted = new Set([...connections].flatMap(({ symbols }) => [...symbols]));
    for (const symbol of wanted) {
      const trade = say(market.trade(symbol));
      for (const { socket, symbols } of connections) {
        // Whoever does not read gets nothing more until it has.
        if (symbols.has(symbol) && socket.writableLength < 1_000_000) socket.write(trade);
      }
    }
  }, TRADE_EVERY_MS);
  trading.unref();

  const feed = {
    /** Listens on loopback; 0 is any free port. */
    listen: (wanted) => new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(wanted, '127.0.0.1', () => {
        port = server.address().port;
        resolve(port);
      });
    }),
    close: () => {
      clearInterval(trading);
      cut();
      server.close();
    },
    connections: () => connections.size,
    faults: {
      c: ['cut every connection', cut],
      d: ['be down for ten seconds', () => feed.down(10_000)],
      s: ['say nothing for ten seconds, but stay open', () => { silentUntil = Date.now() + 10_000; }],
      g: ['lose five trades of each symbol', () => market.skip()],
      x: ['say garbage', () => connections.forEach(({ socket }) => socket.write(Buffer.from('\xff\x00 no frame at all', 'latin1')))],
    },
    /** Refuses everybody for so long, milliseconds. */
    down: (ms) => {
      if (!server.listening) return;
      server.close();
      cut();
      server = start();
      setTimeout(() => feed.listen(port).catch((error) => log(`cannot listen again: ${error.message}`)), ms).unref();
    },
  };
  return feed;
}

/** Breaks a feed by the keys of the terminal, and by itself if it is to flap. Returns what to press. */
export function breakable(feed, { flap, log, quit }) {
  const faults = Object.entries(feed.faults);
  if (flap) {
    let next = 0;
    setInterval(() => {
      const [, [what, fault]] = faults[next++ % faults.length];
      log(`fault: ${what}`);
      fault();
    }, 8_000);
  }
  if (!process.stdin.isTTY) return '';
  process.stdin.setRawMode(true).setEncoding('utf8').on('data', (key) => {
    if (key === 'q' || key === '\u0003') return quit();
    const [what, fault] = feed.faults[key] ?? [];
    if (!fault) return undefined;
    log(`fault: ${what}`);
    return fault();
  });
  return [...faults.map(([key, [what]]) => `  ${key}  ${what}`), '  q  quit'].join('\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const argument = (name) => process.argv[process.argv.indexOf(name) + 1];
  const feed = createFeed(console.log);
  const port = await feed.listen(process.argv.includes('--port') ? Number(argument('--port')) : 5180);
  console.log(`feeding on ws://127.0.0.1:${port}/feed`);
  const keys = breakable(feed, { flap: process.argv.includes('--flap'), log: console.log, quit: () => process.exit(0) });
  if (keys) console.log(keys);
}
