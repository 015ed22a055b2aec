import { decode as peerDecode, encode as peerEncode } from '@msgpack/msgpack';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compressed, msgpack } from '../src/msgpack.js';

/** Bytes as the frame that a WebSocket hands on. */
const frame = (...bytes: number[]): ArrayBuffer => Uint8Array.from(bytes).buffer;

function encode(message: unknown): Uint8Array<ArrayBuffer> {
  const encoded = msgpack.encode(message);
  if (typeof encoded === 'string') throw new Error('MessagePack is binary');
  return encoded;
}

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
const jsonValue = fc.jsonValue({ maxDepth: 6 });

describe('msgpack', () => {
  it('says exactly what JSON says, there and back', () => {
    fc.assert(fc.property(jsonValue, (value) => {
      expect(msgpack.decode(encode(value).buffer)).toEqual(plain(value));
    }));
  });

  it('writes the same bytes as another implementation', () => {
    fc.assert(fc.property(jsonValue, (value) => {
      expect([...encode(value)]).toEqual([...peerEncode(plain(value))]);
    }));
  });

  it('reads what another implementation writes, in 32-bit floats too', () => {
    fc.assert(fc.property(jsonValue, fc.boolean(), (value, forceFloat32) => {
      const bytes = Uint8Array.from(peerEncode(plain(value), { forceFloat32 }));
      expect(msgpack.decode(bytes.buffer)).toEqual(peerDecode(bytes));
    }));
  });

  it.each([
    0, 1, 127, 128, 255, 256, 65_535, 65_536, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER,
    -1, -32, -33, -128, -129, -32_768, -32_769, -(2 ** 31), -(2 ** 31) - 1, Number.MIN_SAFE_INTEGER,
    2 ** 53, 1e300, -1e300, 0.5, 5e-324,
  ])('keeps the number %d, in the form the other implementation chooses', (number) => {
    expect(msgpack.decode(encode(number).buffer)).toBe(number);
    expect([...encode(number)]).toEqual([...peerEncode(number)]);
  });

  it.each([0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536])('keeps texts, lists and maps of length %d', (length) => {
    const list = Array.from({ length }, (_, at) => at % 2 === 0);
    const map = Object.fromEntries(list.map((value, at) => [`k${at}`, value]));
    for (const value of ['x'.repeat(length), list, map]) {
      const bytes = encode(value);
      // Bytes and texts are compared as such: showing the difference of two long lists takes seconds.
      expect(Buffer.compare(bytes, peerEncode(value))).toBe(0);
      expect(JSON.stringify(msgpack.decode(bytes.buffer))).toBe(JSON.stringify(value));
    }
  });

  it('leaves out what JSON leaves out', () => {
    const message = { a: undefined, b: [undefined, NaN, -0], at: new Date(0), f: () => 1 };
    expect(msgpack.decode(encode(message).buffer)).toEqual({ b: [null, null, 0], at: '1970-01-01T00:00:00.000Z' });
  });

  it('reads 64-bit integers as numbers', () => {
    expect(msgpack.decode(frame(0xcf, 0, 0, 0, 1, 0, 0, 0, 0))).toBe(2 ** 32);
    expect(msgpack.decode(frame(0xcf, 255, 255, 255, 255, 255, 255, 255, 255))).toBe(2 ** 64);
    expect(msgpack.decode(frame(0xd3, 128, 0, 0, 0, 0, 0, 0, 0))).toBe(-(2 ** 63));
  });

  it('keeps a member named __proto__ a member', () => {
    const message: unknown = JSON.parse('{"__proto__":{"x":1}}');
    const read = msgpack.decode(encode(message).buffer);
    expect(read).toEqual(message);
    expect(Object.getPrototypeOf(read)).toBe(Object.prototype);
  });

  it('keeps a byte order mark', () => {
    expect(msgpack.decode(encode('\uFEFFx').buffer)).toBe('\uFEFFx');
  });

  it.each([
    ['nothing', frame(), 'cut short'],
    ['a text that is cut', frame(0xa3, 0x61), 'cut short'],
    ['an integer that is cut', frame(0xcd, 1), 'cut short'],
    ['a list that claims four billion items', frame(0xdd, 255, 255, 255, 255, 0xc0), 'cut short'],
    ['a map that claims four billion members', frame(0xdf, 255, 255, 255, 255), 'cut short'],
    ['a second value', frame(0xc0, 0xc0), 'more than one value'],
    ['binary', frame(0xc4, 1, 0), 'no JSON type, 0xc4'],
    ['an extension', frame(0xd4, 1, 0), 'no JSON type, 0xd4'],
    ['the byte that means nothing', frame(0xc1), 'no JSON type, 0xc1'],
    ['a key that is a number', frame(0x81, 0x01, 0x02), 'a key that is no text'],
  ])('refuses %s', (_, bytes, why) => {
    expect(() => msgpack.decode(bytes)).toThrow(new RegExp(`^MessagePack: ${why}`));
    expect(() => compressed.decode(bytes)).toThrow(TypeError);
  });

  it('refuses text that is not UTF-8', () => {
    expect(() => msgpack.decode(frame(0xa1, 0xff))).toThrow(TypeError);
  });

  it('reads 64 levels and no more', () => {
    const nested = (levels: number): ArrayBuffer => Uint8Array.from([...Array<number>(levels - 1).fill(0x91), 0x90]).buffer;
    expect(() => msgpack.decode(nested(64))).not.toThrow();
    expect(() => msgpack.decode(nested(65))).toThrow('nested too deep');
    expect(() => msgpack.decode(nested(1_000_000))).toThrow('nested too deep');
  });

  it('agrees with the other implementation on random bytes, or refuses them', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      let read: unknown;
      try {
        read = msgpack.decode(Uint8Array.from(bytes).buffer);
      } catch (error) {
        expect(error).toBeInstanceOf(TypeError);
        return;
      }
      expect(read).toEqual(peerDecode(bytes));
    }), { numRuns: 2_000 });
  });

  it('refuses every beginning of a message', () => {
    fc.assert(fc.property(jsonValue, fc.nat(), (value, cut) => {
      const bytes = encode(value);
      expect(() => msgpack.decode(bytes.slice(0, cut % bytes.length).buffer)).toThrow(TypeError);
    }));
  });
});

describe('both codecs', () => {
  it('read text as JSON', () => {
    expect(msgpack.decode('{"a":1}')).toEqual({ a: 1 });
    expect(compressed.decode('{"a":1}')).toEqual({ a: 1 });
    expect(() => compressed.decode('{')).toThrow(SyntaxError);
  });

  it('ask for their own encoding', () => {
    expect(msgpack.protocol).toBe('pulsewire.msgpack');
    expect(compressed.protocol).toBe('pulsewire.json');
    expect(compressed.encode({ a: 1 })).toBe('{"a":1}');
    expect(compressed.decode(encode({ a: 1 }).buffer)).toEqual({ a: 1 });
  });
});
