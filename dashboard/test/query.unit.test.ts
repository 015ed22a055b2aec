import { describe, expect, it } from 'vitest';
import { queryString, termOf, terms, watchName, withTerm } from '../src/query.js';

describe('the name of a watch', () => {
  it('is that of the contract', () => {
    expect(watchName('connections', { sort: '-queue', limit: 50, filter: 'rtt>200' })).toBe('$sys.connections:sort=-queue+limit=50+filter=rtt~3E200');
  });

  it('is bare without a question', () => {
    expect(watchName('overview')).toBe('$sys.overview');
    expect(watchName('connections', { filter: '', sort: null, group: undefined })).toBe('$sys.connections');
  });

  it('holds only what a channel may hold, and can be read back', () => {
    const filter = `user:älice* -"x y" a+b=c&d %~#:`;
    const name = watchName('connections', { filter }) ?? '';
    expect(name).toMatch(/^\$sys\.[A-Za-z0-9._\-:/@#+=~]+$/);
    const read = new URLSearchParams(name.split(/:(.*)/s)[1]?.replaceAll('+', '&').replaceAll('~', '%'));
    expect(read.get('filter')).toBe(filter);
  });

  it('never ends in a colon, which no channel may', () => {
    expect(watchName('connections', { filter: 'user:' })).toBe('$sys.connections:filter=user~3A');
  });

  it('is none if it would be too long', () => {
    expect(watchName('connections', { filter: 'x'.repeat(300) })).toBeNull();
    expect(watchName('a', { b: 'x'.repeat(255 - '$sys.a:b='.length) })).toHaveLength(255);
  });
});

describe('a query string', () => {
  it('leaves out what is empty and escapes the rest', () => {
    expect(queryString({ filter: 'rtt>200 a&b', sort: '', offset: 0 })).toBe('?filter=rtt%3E200+a%26b&offset=0');
    expect(queryString({})).toBe('');
  });
});

describe('a filter', () => {
  it('takes a term in the place of one about the same field', () => {
    expect(withTerm('rtt>5 user:bob', 'user', 'alice')).toBe('rtt>5 user:alice');
    expect(withTerm('-user:bob', 'user', 'al ice')).toBe('user:"al ice"');
    expect(withTerm('user:bob cause:silent', 'user', null)).toBe('cause:silent');
  });

  it('says what it holds of a field', () => {
    expect(termOf('rtt>5 user:"al ice"', 'user')).toBe('al ice');
    expect(termOf('-user:bob', 'user')).toBeNull();
  });

  it('falls into its terms', () => {
    expect(terms('  a:"b c"  d>3 "open')).toEqual(['a:"b c"', 'd>3', '"open']);
  });
});
