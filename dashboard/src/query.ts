/** What is asked of a list. Empty, null and undefined are left out. */
export type Query = Readonly<Record<string, string | number | null | undefined>>;

/** The longest name a channel may have, in bytes. */
const NAME_BYTES_MAX = 255;

function pairs(query: Query): [string, string][] {
  return Object.entries(query).flatMap(([name, value]) =>
    value === null || value === undefined || value === '' ? [] : [[name, String(value)]],
  );
}

/** The query string of a `GET`, with `?` in front, or nothing. */
export function queryString(query: Query): string {
  const text = new URLSearchParams(pairs(query)).toString();
  return text && `?${text}`;
}

/** Bytes that a channel's name may not hold, or that mean something in one, as `~XX`. */
function escaped(text: string): string {
  let result = '';
  for (const byte of new TextEncoder().encode(text)) {
    const character = String.fromCharCode(byte);
    result += /[A-Za-z0-9._/@-]/.test(character) ? character : `~${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return result;
}

/** `$sys.NAME:QUERY`; null if it is longer than a channel's name may be: such a question can only be asked over HTTP. */
export function watchName(name: string, query: Query = {}): string | null {
  const text = pairs(query).map(([key, value]) => `${escaped(key)}=${escaped(value)}`).join('+');
  const channel = text ? `$sys.${name}:${text}` : `$sys.${name}`;
  return channel.length > NAME_BYTES_MAX ? null : channel;
}

/** Puts a term into a filter, in the place of one about the same field. A value with spaces goes between quotes. */
export function withTerm(filter: string, field: string, value: string | null): string {
  const others = terms(filter).filter((term) => !term.startsWith(`${field}:`) && !term.startsWith(`-${field}:`));
  if (value !== null) others.push(`${field}:${/\s/.test(value) ? `"${value}"` : value}`);
  return others.join(' ');
}

/** What a filter says of a field, if it names it. */
export function termOf(filter: string, field: string): string | null {
  const term = terms(filter).find((text) => text.startsWith(`${field}:`));
  return term === undefined ? null : term.slice(field.length + 1).replace(/^"(.*)"$/, '$1');
}

/** The terms of a filter; spaces between quotes do not separate. */
export function terms(filter: string): string[] {
  return filter.match(/(?:[^\s"]|"[^"]*"?)+/g) ?? [];
}
