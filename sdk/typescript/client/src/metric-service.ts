import { createClient } from './client.js';
import { type Codec, json } from './codec.js';
import { METRICS_KEPT } from './defaults.js';
import { RealtimeError } from './error.js';
import type { Unsubscribe } from './readable.js';
import type { ChannelOptions, Client, ClientOptions, Json, ServerMessage, TokenProvider } from './types.js';

/** So many answers of the server are put together at most when the past is asked for; one has about a hundred windows. */
const PAGES_MAX = 50;

interface Metric0 {
  readonly channel: string;
  /** RFC 3339; of a window, when it began. */
  readonly timestamp: string;
  readonly tags?: { readonly [tag: string]: string };
}

/** One value of one series. */
export interface MetricPoint extends Metric0 {
  readonly name: string;
  readonly type: 'gauge' | 'counter' | 'histogram';
  readonly value: number;
  readonly interval?: undefined;
}

/** The figures of one series in one window; `value` is the mean of a gauge and the last value of anything else. */
export interface MetricWindow extends Metric0 {
  readonly name: string;
  readonly type: 'gauge' | 'counter' | 'histogram';
  readonly value: number;
  /** How long the window is, such as `5s`. */
  readonly interval: string;
  readonly last: number;
  readonly min: number;
  readonly max: number;
  readonly sum: number;
  readonly count: number;
  readonly avg: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

/** Everything of one moment and one set of tags: the dots of the names nest, `cpu.percent` is `metric.cpu.percent`. */
export interface MetricDocument extends Metric0 {
  readonly name?: undefined;
  readonly type?: undefined;
  /** Of windows; the members are then objects of figures as in {@link MetricWindow}. */
  readonly interval?: string;
  readonly [series: string]: Json | undefined;
}

/** What comes of a metric channel. `metric.name === undefined` tells documents from the rest, `metric.interval` windows from values. */
export type Metric = MetricPoint | MetricWindow | MetricDocument;

/**
 * What the server says of a subscription besides metrics: `stale` (nothing came for three intervals; `since` in milliseconds since
 * 1970), `dropped` (this client was too slow; `count`), and `history` with the `events` that were missed while the connection was
 * away, which are in the buffer by now. Protocol R27b, R35, R35a.
 */
export type MetricNotice = ServerMessage;

/** What to subscribe to. */
export interface MetricSubscription extends Pick<ChannelOptions, 'tags' | 'filter' | 'aggregation_interval' | 'shape' | 'compression'> {
  readonly channels: readonly string[];
}

/** Metrics as they come, of one server for one token. */
export interface MetricService {
  /** The connection, for everything else: its health, its errors, `setToken`. */
  readonly client: Client;
  connect(): void;
  /** Ends; subscriptions stay for the next `connect()`. The next `getMetricService` makes a new service. */
  disconnect(): void;
  /**
   * Wants these channels in this way. It stays so over reconnects, and saying it again changes nothing; another set of options
   * for a channel replaces the one before and empties its buffer. The function that is returned unsubscribes the channels.
   *
   * `compression` has the server send MessagePack. What reads it is loaded when it is first asked for (1 KB); where that fails
   * the channel comes as JSON.
   */
  subscribe(subscription: MetricSubscription): Unsubscribe;
  unsubscribe(channels: readonly string[]): void;
  /** Hears every metric of a channel, or of all (`*`). */
  onMetric(channel: string, listener: (metric: Metric) => void): Unsubscribe;
  /** Hears what happens besides. */
  onNotice(listener: (notice: MetricNotice) => void): Unsubscribe;
  /** Hears of the connection: at once if there is one, then whenever it is lost and back. */
  onConnectionChange(listener: (connected: boolean) => void): Unsubscribe;
  /**
   * The newest 1,000 metrics of a channel, or of each, in the order they came. What was missed while the connection was away is
   * filled in from the history as windows (without an `aggregation_interval` the last may still be open); a notice says when.
   */
  getBufferedMetrics(channel?: string): Metric[];
  /**
   * The windows of a time (RFC 3339), as fine as the server gives them, oldest first. Rejects with `limit_exceeded` when they are
   * more than 50 answers of the server: ask for less time.
   */
  getHistory(query: { channel: string; start_time: string; end_time: string }): Promise<Metric[]>;
}

/** How a service connects; everything of a client but the address and the token. */
export type MetricServiceOptions = Omit<ClientOptions, 'url' | 'token'>;

/** What is wanted of a channel, and what came of it by moment and series. */
interface Feed {
  readonly key: string;
  readonly ring: Map<string, Metric>;
  stop?: Unsubscribe;
}

/** The service of document 004: one for each address and token; `options` are those of the first call. */
export type GetMetricService = (url: string, token?: string | TokenProvider, options?: MetricServiceOptions) => MetricService;

const services = new Set<{ readonly url: string; readonly token: unknown; readonly service: MetricService }>();

/** `load` brings what reads compressed metrics, when a subscription asks for them first. */
export const metricServices = (load: () => Promise<Codec> | Codec): GetMetricService => (url, token, options) => {
  for (const known of services) if (known.url === url && known.token === token) return known.service;

  let codec = json;
  const growing: Codec = { ...json, decode: (frame) => codec.decode(frame) };

  const client = createClient({ codec: growing, ...options, url, ...(token && { token }) });
  const feeds = new Map<string, Feed>();
  const listeners = new Set<(message: ServerMessage) => void>();

  const join = (listener: (message: ServerMessage) => void): Unsubscribe => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  };

  /** What one listener throws goes to the client's `error` when all have heard. */
  const tell = (message: ServerMessage, left: IterableIterator<(message: ServerMessage) => void>): void => {
    const { value: run } = left.next();
    if (!run) return;
    try {
      run(message);
    } finally {
      tell(message, left);
    }
  };

  const start = async (name: string, feed: Feed, wanted: ChannelOptions): Promise<void> => {
    let compression = wanted.compression === true;
    try {
      if (compression) codec = await load();
    } catch {
      compression = false;
    }
    // It may have been unsubscribed meanwhile.
    if (feeds.get(name) !== feed) return;
    let heard = 0;
    let newest = 0;
    let leave: Unsubscribe | undefined;
    const listen = (): void => {
      leave?.();
      leave = channel.onMessage((message) => {
        const { events = [message] } = message;
        heard = Date.now();
        for (const metric of Array.isArray(events) ? events.filter(isMetric) : []) {
          const at = Date.parse(metric.timestamp);
          // The past is of a little before: what is older than the newest is there.
          if (metric !== message && at < newest) continue;
          newest = at;
          feed.ring.set(JSON.stringify([metric.timestamp, metric.name, metric.tags]), metric);
          for (const oldest of feed.ring.keys()) if (feed.ring.size > METRICS_KEPT) feed.ring.delete(oldest);
        }
        tell(message, listeners.values());
      });
    };
    const channel = client.channel(name, {
      ...wanted,
      compression,
      // Read whenever the client subscribes: after a time without a connection, from a little before it was lost.
      get history() {
        return heard ? `${Math.ceil((Date.now() - heard) / 1000) + 5}s` : undefined;
      },
    });
    listen();
    const unwatch = channel.state.subscribe((state) => {
      // The token may not allow to read the past: then without.
      if (heard && state === 'unsubscribed') {
        heard = 0;
        listen();
      }
    });
    feed.stop = () => {
      unwatch();
      leave?.();
    };
  };

  const service: MetricService = {
    client,
    connect() {
      services.add(entry);
      client.connect();
    },
    disconnect() {
      services.delete(entry);
      client.disconnect();
    },
    subscribe({ channels, tags = {}, ...rest }) {
      const key = JSON.stringify([tags, rest].map((members) => Object.entries(members).sort()));
      for (const channel of channels) {
        if (feeds.get(channel)?.key === key) continue;
        service.unsubscribe([channel]);
        const feed: Feed = { key, ring: new Map() };
        feeds.set(channel, feed);
        void start(channel, feed, { tags, ...rest });
      }
      return () => service.unsubscribe(channels);
    },
    unsubscribe(channels) {
      for (const channel of channels) {
        const feed = feeds.get(channel);
        feeds.delete(channel);
        feed?.stop?.();
      }
    },
    onMetric: (channel, listener) => join((message) => {
      if (isMetric(message) && (channel === '*' || channel === message.channel)) listener(message);
    }),
    onNotice: (listener) => join((message) => isMetric(message) || listener(message)),
    onConnectionChange(listener) {
      let was = false;
      return client.status.subscribe((status) => {
        const is = status === 'connected' || status === 'polling';
        if (was !== is) listener((was = is));
      });
    },
    getBufferedMetrics: (channel) =>
      [...feeds].flatMap(([name, { ring }]) => (channel === undefined || channel === name ? [...ring.values()] : [])),
    async getHistory(query) {
      const metrics: Metric[] = [];
      let more = {};
      for (let page = 0; page < PAGES_MAX; page++) {
        const { events, resolution, next_time } = await client.request({ type: 'get_history', ...query, ...more });
        if (Array.isArray(events)) metrics.push(...events.filter(isMetric));
        if (!next_time) return metrics;
        more = { resolution, start_time: next_time };
      }
      throw new RealtimeError('limit_exceeded');
    },
  };
  const entry = { url, token, service };
  services.add(entry);
  return service;
};

function isMetric(message: { readonly [member: string]: unknown }): message is Metric & ServerMessage {
  return typeof message['timestamp'] === 'string';
}
