import { describe, expect, it } from 'vitest';
import { claimsOf } from '../src/session.js';
import { token } from './fixture.js';

describe('a token', () => {
  it('says who holds it', () => {
    expect(claimsOf(token('operator'))).toMatchObject({ user: 'ada', role: 'operator' });
    const odd = Buffer.from(JSON.stringify({ sub: 'Ä?>~' })).toString('base64url');
    expect(claimsOf(`x.${odd}.y`)).toEqual({ user: 'Ä?>~', role: 'user', expiresAt: null });
  });

  it.each(['', 'x', 'a.b.c', 'a.bnVsbA.c'])('that is none says nothing: %s', (text) => {
    expect(claimsOf(text)).toBeNull();
  });
});
