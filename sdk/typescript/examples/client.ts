import { createClient } from '@pulsewire/client';
import { polling } from '@pulsewire/client/polling';

/** What is said in a run. */
export type App = {
  readonly [run: `run:${string}`]: {
    readonly GRAFT: { readonly node: string };
    readonly PRUNE: { readonly node: string };
    readonly note: { readonly text: string };
  };
};

const query = new URLSearchParams(location.search);

/** `?run=42` */
export const runId = query.get('run') ?? '42';

/** Its channel. */
export const run = `run:${runId}` as const;

/** `?url=wss://host/ws&token=…`; a real page asks its own server for the token, in a function that is called again when it runs out. */
export const client = createClient<App>({
  url: query.get('url') ?? '/ws',
  token: query.get('token') ?? '',
  fallback: polling(),
});
