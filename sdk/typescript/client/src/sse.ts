import { RealtimeError } from './error.js';
import { asker, isHopeless, publisher, query } from './http.js';
import type { Fallback, ServerMessage } from './types.js';

/**
 * Reads by event streams, one for each channel, and publishes by HTTP. It reads every kind of channel, sooner than polling does, where
 * proxies let streams through. A browser opens six connections to an HTTP/1.1 server in all: for up to five channels.
 */
export function sse(): Fallback {
  return {
    transport: 'sse',
    start(host) {
      const stop = new AbortController();
      const ask = asker(host, stop.signal);
      const open = new Set<string>();
      let retryMs = 2_000;

      const find = (name: string) => [...host.channels()].find((channel) => channel.name === name);

      /** Hands on what a stream says until it ends or is wanted no longer. */
      async function read(name: string): Promise<void> {
        const channel = find(name);
        if (!channel) return;
        let previous = channel.position?.sequence ?? 0;
        const { shape } = channel.options;
        const response = await ask(
          `/api/channels/${encodeURIComponent(name)}/sse${query(channel, host, 'after')}${shape ? `&shape=${shape}` : ''}`,
        );
        host.succeeded();
        const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
        let text = '';
        for (;;) {
          const { value, done } = (await reader?.read()) ?? { value: '', done: true };
          if (done || stop.signal.aborted || !find(name)) return void reader?.cancel();
          const blocks = (text + value).split('\n\n');
          text = blocks.pop() ?? '';
          for (const block of blocks) {
            const message = JSON.parse(/^data: (.*)/m.exec(block)?.[1] ?? '{}') as ServerMessage;
            const [, epoch, sequence] = /^id: (.+):(\d+)/m.exec(block) ?? [];
            if (message.type === 'close') throw new RealtimeError('kicked', String(message['reason']));
            retryMs = Number(/^retry: (\d+)/m.exec(block)?.[1] ?? retryMs);
            if (message.type === 'reconnect') retryMs = Number(message['retry_ms']);
            else if (message.type === 'subscribed') host.place(name, null);
            else host.deliver(message.type === 'event' ? { ...message, previous } : message);
            if (epoch) host.place(name, { epoch, sequence: (previous = Number(sequence)) });
          }
        }
      }

      async function follow(name: string): Promise<void> {
        open.add(name);
        while (!stop.signal.aborted && find(name)) {
          try {
            await read(name);
          } catch (error) {
            // It stays in the list: nobody asks again.
            if (stop.signal.aborted || isHopeless(host, name, error)) return;
            host.failed(error);
          }
          await new Promise((resolve) => setTimeout(resolve, retryMs * (0.5 + Math.random())));
        }
        open.delete(name);
      }

      const changed = (): void => {
        const names = [...host.channels()].map(({ name }) => name).filter((name) => !open.has(name));
        names.forEach(follow);
        // With nothing to read, reaching the server is all there is to try.
        if (open.size === 0) {
          host.fetch(`${host.origin}/livez`, { mode: 'no-cors' })
            .then(() => stop.signal.aborted || host.succeeded(), (error: unknown) => stop.signal.aborted || host.failed(error));
        }
      };
      changed();
      return { publish: publisher(host, ask), changed, stop: () => stop.abort() };
    },
  };
}
