import { RealtimeError } from './error.js';
import { hopeless, Http } from './http.js';
import type { ChannelOptions, Fallback, FallbackHost, Position, ServerMessage } from './types.js';

/**
 * Reads by event streams, one for each channel, and publishes by HTTP. It reads every kind of channel, sooner than polling does, where
 * proxies let streams through. A browser opens six connections to an HTTP/1.1 server in all: for up to five channels.
 */
export function sse(): Fallback {
  return {
    transport: 'sse',
    start(host) {
      const http = new Http(host);
      const open = new Map<string, AbortController>();
      const changed = (): void => {
        const wanted = new Map([...host.channels()].map((channel) => [channel.name, channel]));
        for (const [name, aborter] of open) if (!wanted.has(name)) aborter.abort();
        for (const channel of wanted.values()) {
          if (open.has(channel.name)) continue;
          const aborter = new AbortController();
          open.set(channel.name, aborter);
          void follow(host, http, channel, aborter.signal).finally(() => open.delete(channel.name));
        }
        if (wanted.size === 0) void host.fetch(`${host.origin}/livez`, { mode: 'no-cors' }).then(host.succeeded, host.failed);
      };
      changed();
      return {
        publish: (message) => http.publish(message),
        changed,
        stop() {
          http.stop();
          for (const aborter of open.values()) aborter.abort();
        },
      };
    },
  };
}

/** Reads one channel until it is no longer wanted. */
async function follow(
  host: FallbackHost, http: Http, { name, options }: { name: string; options: ChannelOptions }, signal: AbortSignal,
): Promise<void> {
  let retryMs = 2000;
  while (!signal.aborted && !http.stopped) {
    try {
      const position = [...host.channels()].find((channel) => channel.name === name)?.position ?? null;
      const query = new URLSearchParams({ fallback: host.session });
      if (position) query.set('after', `${position.epoch}:${position.sequence}`);
      if (options.shape) query.set('shape', options.shape);
      for (const [tag, value] of Object.entries(options.tags ?? {})) query.append('tags', `${tag}:${value}`);
      const response = await http.ask(`/api/channels/${encodeURIComponent(name)}/sse?${query}`);
      host.succeeded();
      retryMs = await read(host, name, position, response, signal, retryMs);
    } catch (error) {
      if (signal.aborted || http.stopped) return;
      if (hopeless(error)) {
        return host.deliver({ type: 'error', code: error.code, message: `${name}: ${error.message}` });
      }
      host.failed(error);
    }
    await new Promise((resolve) => setTimeout(resolve, retryMs * (0.5 + Math.random())));
  }
}

/** Hands on what a stream says until it ends; gives the time to wait before the next. */
async function read(
  host: FallbackHost, name: string, position: Position | null, response: Response, signal: AbortSignal, retryMs: number,
): Promise<number> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  signal.addEventListener('abort', () => void reader?.cancel(), { once: true });
  let text = '';
  let previous = position?.sequence ?? 0;
  for (;;) {
    const { value, done } = (await reader?.read()) ?? { value: undefined, done: true };
    if (done || signal.aborted) return retryMs;
    const blocks = (text + value).split('\n\n');
    text = blocks.pop() ?? '';
    for (const block of blocks) {
      const fields = new Map(block.split('\n').map((line) => line.split(/: ?(.*)/s, 2) as [string, string]));
      const data = fields.get('data');
      const [epoch, sequence] = fields.get('id')?.split(':') ?? [];
      if (fields.has('retry')) retryMs = Number(fields.get('retry'));
      if (data !== undefined) {
        const message = JSON.parse(data) as ServerMessage;
        if (message.type === 'close') throw new RealtimeError('disconnected', String(message['reason']));
        if (message.type === 'reconnect') retryMs = message['retry_ms'] as number;
        else if (message.type !== 'subscribed') host.deliver(message.type === 'event' ? { ...message, previous } : message);
      }
      if (epoch !== undefined && sequence !== undefined) {
        previous = Number(sequence);
        host.place(name, { epoch, sequence: previous });
      }
    }
  }
}
