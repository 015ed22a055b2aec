import { computed, signal } from '@preact/signals';
import { queryString, type Query } from './query.js';

/** Where the token is kept: as long as the tab, and only for this page. */
const KEPT = 'pulsewire.token';

/** Why the server refused something: a problem document (RFC 9457), or what stands for one. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  /** What to do about it. */
  readonly help: string;

  constructor(status: number, code: string, message: string, help = '') {
    super(message);
    this.status = status;
    this.code = code;
    this.help = help;
  }
}

/** What a token says of its holder. The server decides; this is only so that nobody is shown buttons that are refused. */
export interface Claims {
  readonly user: string;
  readonly role: string;
  /** Milliseconds since 1970. */
  readonly expiresAt: number | null;
}

/** The token that was accepted; null while nobody is signed in. */
export const token = signal<string | null>(null);
/** Why the last token was refused. */
export const refusal = signal<Problem | null>(null);
/** A token is being tried. */
export const trying = signal(false);

export const claims = computed(() => (token.value === null ? null : claimsOf(token.value)));
/** Whether actions are offered. */
export const mayAct = computed(() => claims.value?.role === 'operator' || claims.value?.role === 'admin');

/** Reads a token without judging it. */
export function claimsOf(text: string): Claims | null {
  try {
    const part = (text.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
    const said: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof said !== 'object' || said === null) return null;
    const { sub, role, exp } = said as Record<string, unknown>;
    return {
      user: typeof sub === 'string' ? sub : '',
      role: typeof role === 'string' ? role : 'user',
      expiresAt: typeof exp === 'number' ? exp * 1000 : null,
    };
  } catch {
    return null;
  }
}

/** Begins: with the token of the address, which is taken out of it, or with that of this tab. */
export async function begin(): Promise<void> {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given !== null) history.replaceState(history.state, '', location.pathname + location.search);
  const kept = given ?? sessionStorage.getItem(KEPT);
  if (kept) await signIn(kept);
}

/** Tries a token; afterwards {@link token} or {@link refusal} is set. */
export async function signIn(text: string): Promise<void> {
  trying.value = true;
  try {
    await ask('GET', '/api/admin/overview', text);
    sessionStorage.setItem(KEPT, text);
    refusal.value = null;
    token.value = text;
  } catch (error) {
    refuse(problemOf(error));
  } finally {
    trying.value = false;
  }
}

/** Forgets the token, and says why if it was not the user who wanted that. */
export function signOut(why: Problem | null = null): void {
  sessionStorage.removeItem(KEPT);
  refusal.value = why;
  token.value = null;
}

function refuse(problem: Problem): void {
  // A server that is away says nothing of the token.
  if (problem.status === 0 || problem.status >= 500) refusal.value = problem;
  else signOut(problem);
}

/** Reads a document of the admin API. Rejects with a {@link Problem}; a token that no longer holds ends the session. */
export async function read<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  return (await asking('GET', path + queryString(query), undefined, signal)) as T;
}

/** Does something. Rejects with a {@link Problem}. */
export async function act(path: string, body: object): Promise<unknown> {
  return asking('POST', path, body);
}

async function asking(method: string, path: string, body?: object, signal?: AbortSignal): Promise<unknown> {
  try {
    return await ask(method, path, token.value ?? '', body, signal);
  } catch (error) {
    if (error instanceof Problem && error.status === 401) signOut(error);
    throw error;
  }
}

async function ask(method: string, path: string, bearer: string, body?: object, signal?: AbortSignal): Promise<unknown> {
  const headers: Record<string, string> = { authorization: `Bearer ${bearer}` };
  if (body) headers['content-type'] = 'application/json';
  const response = await fetch(path, {
    method, headers, cache: 'no-store', ...(body && { body: JSON.stringify(body) }), ...(signal && { signal }),
  });
  const text = await response.text();
  const said = parsed(text);
  if (response.ok) return said;
  const { code, message, title, help } = (said ?? {}) as Record<string, unknown>;
  throw new Problem(
    response.status, String(code ?? response.status), String(message ?? title ?? `the server answered ${response.status}`), String(help ?? ''),
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Whatever went wrong, as a problem. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem(0, 'unreachable', 'the server cannot be reached', 'Is it running? The page tries again by itself.');
}
