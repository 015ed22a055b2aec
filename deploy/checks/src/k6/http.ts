// The part of `k6/http` that waits for nothing.
import { failed } from './metrics.js';
import { vu } from './vu.js';

interface Params { readonly headers?: Record<string, string> }

async function asyncRequest(method: string, url: string, body: string | null = null, { headers = {} }: Params = {}): Promise<{ readonly status: number; readonly body: string }> {
  const cut = new AbortController();
  const end = vu().begin(() => cut.abort());
  try {
    const response = await fetch(url, { method, headers, body, signal: cut.signal });
    failed.add(!response.ok);
    return { status: response.status, body: await response.text() };
  } catch {
    // As k6 does where `throw` is not set.
    failed.add(true);
    return { status: 0, body: '' };
  } finally {
    end();
  }
}

export default { asyncRequest };
