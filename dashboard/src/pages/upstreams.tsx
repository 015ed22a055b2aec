import type { JSX } from 'preact';
import { count } from '../format.js';
import { link } from '../router.js';
import { overview } from '../store.js';
import { EmptyState } from '../ui/empty.js';

/** Streams that this server reads from elsewhere; there are none in this version. */
export function Upstreams(): JSX.Element {
  const known = overview.data.value?.counts['upstreams'] ?? 0;
  return (
    <>
      <h1 class="hidden">Upstreams</h1>
      <EmptyState title={known > 0 ? `${count(known)} upstreams, which this page cannot show` : 'This server has no upstreams'}>
        {known > 0 && <p>The server is newer than the page: reload it.</p>}
        <p>An upstream is a stream that the server itself holds open to another service and passes on to its own clients. Here will stand for each how it is, how often it is tried again, how far it has come, and what its last error was.</p>
        <p>This version opens none, and no setting changes that. What comes in today comes by <a href={link('try')}>publishing</a> and as samples of <a href={link('series')}>metric channels</a>.</p>
      </EmptyState>
    </>
  );
}
