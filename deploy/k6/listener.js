// @ts-check
// What each virtual user does: it connects, subscribes to its project, publishes there now and then, and measures how long
// events take, whether all come, and whether heartbeats are answered.
import exec from 'k6/execution';
import http from 'k6/http';
import { Counter, Rate, Trend } from 'k6/metrics';
import { clearInterval, clearTimeout, setInterval, setTimeout } from 'k6/timers';
import { WebSocket } from 'k6/websockets';

const BASE = (__ENV['PULSEWIRE_URL'] ?? 'http://127.0.0.1:8000').replace(/\/$/, '');
const TOKEN = __ENV['PULSEWIRE_TOKEN'] ?? '';
/** Channels `project:load-0` and on, among which users are dealt out. */
const PROJECTS = number('PROJECTS', 50);
/** Between two events of a user, and between two of its pings, in milliseconds. */
const PUBLISH_EVERY_MS = number('PUBLISH_EVERY_MS', 10_000);
const PING_EVERY_MS = number('PING_EVERY_MS', 15_000);
/** Users connect one after the other within so long. */
const ARRIVAL_MS = number('ARRIVAL_MS', 10_000);

const connected = new Rate('pulsewire_connected');
const broken = new Rate('pulsewire_broken');
const latency = new Trend('pulsewire_message_latency', true);
const heartbeat = new Trend('pulsewire_heartbeat_rtt', true);
const errors = new Rate('pulsewire_errors');
const events = new Counter('pulsewire_events');
const lost = new Counter('pulsewire_lost_events');
const published = new Rate('pulsewire_published');

/** `readyState` of a connection that is there. */
const OPEN = 1;

let session_ms = 0;

/**
 * Options of a script: how much load there is unless the environment (`VUS`, `DURATION`) or the command line say otherwise,
 * and when a run fails, by document 001's table.
 * @param {{vus: number, duration: string, latency_ms: number}} defaults
 * @returns {import('k6/options').Options}
 */
export function optionsOf({ vus, duration, latency_ms }) {
  const wanted = __ENV['DURATION'] ?? duration;
  session_ms = milliseconds(__ENV['SESSION'] ?? wanted);
  return {
    vus: number('VUS', vus),
    duration: wanted,
    thresholds: {
      // More than one attempt in a hundred that fails is more than the target for authentications allows.
      pulsewire_connected: ['rate>0.99'],
      pulsewire_broken: ['rate<0.01'],
      pulsewire_message_latency: [`p(95)<${number('LATENCY_MS', latency_ms)}`, 'p(99)<500'],
      pulsewire_heartbeat_rtt: ['p(95)<500'],
      pulsewire_errors: ['rate<0.01'],
      pulsewire_published: ['rate>0.99'],
      // A run in which nothing came says nothing.
      pulsewire_events: ['count>0'],
      pulsewire_lost_events: ['count==0'],
    },
  };
}

/** One connection, until the load ends. */
export function listen() {
  const arrival = Math.random() * Math.min(ARRIVAL_MS, session_ms / 10);
  setTimeout(connect, arrival);
}

function connect() {
  const channel = `project:load-${exec.vu.idInTest % PROJECTS}`;
  const socket = new WebSocket(`${BASE.replace(/^http/, 'ws')}/ws`, null, { headers: { Authorization: `Bearer ${TOKEN}` } });
  /** @type {(() => void)[]} */
  const stops = [];
  let [opened, left, last] = [false, false, 0];
  socket.onopen = () => {
    opened = true;
    connected.add(true);
    broken.add(false);
    send(socket, { type: 'subscribe', id: 1, channels: [channel] });
    const pings = setInterval(() => send(socket, { type: 'ping', timestamp: Date.now() / 1000 }), PING_EVERY_MS);
    const events = setInterval(() => void publish(channel), PUBLISH_EVERY_MS);
    const end = setTimeout(() => {
      left = true;
      socket.close(1000);
    }, remaining());
    stops.push(() => clearInterval(pings), () => clearInterval(events), () => clearTimeout(end));
  };
  socket.onmessage = (message) => {
    const said = JSON.parse(String(message?.data));
    errors.add(said.type === 'error');
    if (said.type === 'event') last = arrived(said, last);
    if (said.type === 'subscribed') last = said.positions[channel].sequence;
    if (said.type === 'gap') lost.add(said.to - said.from + 1);
    if (said.type === 'pong') heartbeat.add(Date.now() - said.timestamp * 1000);
  };
  socket.onerror = () => errors.add(true);
  socket.onclose = () => {
    // Without them the iteration is over, and the next one connects anew.
    stops.forEach((stop) => stop());
    if (!opened) connected.add(false);
    else if (!left) broken.add(true);
  };
}

/**
 * Takes an event, and returns its sequence. The channel's events have no holes; what came before `previous` was not ours.
 * @param {{sequence: number, previous?: number, data: {sent_ms: number}}} event
 * @param {number} last
 */
function arrived({ sequence, previous = sequence - 1, data }, last) {
  events.add(1);
  latency.add(Date.now() - data.sent_ms);
  if (previous > last) lost.add(previous - last);
  return sequence;
}

/** @param {string} channel */
async function publish(channel) {
  const body = JSON.stringify({ channel, type: 'load', data: { sent_ms: Date.now(), by: exec.vu.idInTest } });
  const headers = { Authorization: `Bearer ${TOKEN}`, 'Content-Type': 'application/json' };
  const response = await http.asyncRequest('POST', `${BASE}/api/publish`, body, { headers });
  published.add(response.status === 200);
}

/**
 * @param {WebSocket} socket
 * @param {object} message
 */
function send(socket, message) {
  if (socket.readyState === OPEN) socket.send(JSON.stringify(message));
}

/** How long a connection that begins now lasts: a second longer than the load, so that no other follows it. */
function remaining() {
  const left = exec.scenario.startTime + session_ms - Date.now() + 1000;
  return left > 1000 ? left : session_ms;
}

/**
 * @param {string} name
 * @param {number} otherwise
 */
function number(name, otherwise) {
  const value = Number(__ENV[name] ?? otherwise);
  if (!(value > 0)) throw new Error(`${name} is not a number above 0`);
  return value;
}

/**
 * `5m`, `90s` or `1m30s`, in milliseconds.
 * @param {string} text
 */
function milliseconds(text) {
  const parts = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/.exec(text);
  const [hours, minutes, seconds] = (parts ?? []).slice(1).map((part) => Number(part ?? 0));
  const total = ((hours ?? 0) * 3600 + (minutes ?? 0) * 60 + (seconds ?? 0)) * 1000;
  if (total === 0) throw new Error(`not a duration: ${text}`);
  return total;
}
