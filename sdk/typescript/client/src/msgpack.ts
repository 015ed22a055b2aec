import { type Codec, json } from './codec.js';
import type { Json } from './types.js';

/** How deep what is read may nest; what clients send stops at 32 (R7). */
const DEPTH_MAX = 64;

const utf8 = new TextEncoder();
const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** MessagePack of what JSON can say, in the shortest form. */
function pack(message: Json): Uint8Array<ArrayBuffer> {
  const out: number[] = [];
  /** `value` behind a tag that says how many bytes it has: 1 << width, which must hold `span`. */
  const put = (tag: number, value: number, span = value, width = 0): void => {
    while (span >= 2 ** (8 << width)) width++;
    out.push(tag + width);
    for (let at = 1 << width; at--;) out.push(Math.floor(value / 256 ** at) & 255);
  };
  const write = (value: Json): void => {
    if (value === null) out.push(0xc0);
    else if (typeof value === 'boolean') out.push(value ? 0xc3 : 0xc2);
    else if (typeof value === 'string') {
      const bytes = utf8.encode(value);
      if (bytes.length < 32) out.push(0xa0 | bytes.length);
      else put(0xd9, bytes.length);
      for (const byte of bytes) out.push(byte);
    } else if (typeof value === 'number') {
      if (!Number.isSafeInteger(value)) {
        const float = new DataView(new ArrayBuffer(8));
        float.setFloat64(0, value);
        out.push(0xcb, ...new Uint8Array(float.buffer));
      } else if (value >= -32 && value < 128) out.push(value & 255);
      else if (value > 0) put(0xcc, value);
      else put(0xd0, value, -2 * value - 1);
    } else {
      const list = Array.isArray(value);
      const members: readonly (readonly [string, Json])[] = Object.entries(value);
      if (members.length < 16) out.push((list ? 0x90 : 0x80) | members.length);
      else put(list ? 0xdb : 0xdd, members.length, members.length, 1);
      for (const [key, member] of members) {
        if (!list) write(key);
        write(member);
      }
    }
  };
  write(message);
  return Uint8Array.from(out);
}

/** Reads one MessagePack value that fills the frame. Throws a {@link TypeError} on anything else. */
function unpack(frame: ArrayBuffer): Json {
  const view = new DataView(frame);
  let at = 0;
  const refuse = (why: string): never => {
    throw new TypeError(`MessagePack: ${why} at byte ${at}`);
  };
  /** Where the next `bytes` begin. */
  const take = (bytes: number): number => (at + bytes > frame.byteLength ? refuse('cut short') : (at += bytes) - bytes);
  /** A whole number; the last two bits of its tag say how many bytes it has. */
  const whole = (tag: number): number => {
    const from = take(1 << (tag & 3));
    switch (tag) {
      case 0xcc: return view.getUint8(from);
      case 0xcd: return view.getUint16(from);
      case 0xce: return view.getUint32(from);
      case 0xcf: return Number(view.getBigUint64(from));
      case 0xd0: return view.getInt8(from);
      case 0xd1: return view.getInt16(from);
      case 0xd2: return view.getInt32(from);
      default: return Number(view.getBigInt64(from));
    }
  };
  const string = (bytes: number): string => {
    const from = take(bytes);
    return text.decode(new Uint8Array(frame, from, bytes));
  };
  const deeper = (depth: number): number => (depth < DEPTH_MAX ? depth + 1 : refuse('nested too deep'));
  const list = (length: number, depth: number): Json[] => {
    const items: Json[] = [];
    while (length--) items.push(read(depth));
    return items;
  };
  const map = (length: number, depth: number): Json => {
    const members: [string, Json][] = [];
    while (length--) {
      const key = read(depth);
      members.push([typeof key === 'string' ? key : refuse('a key that is no text'), read(depth)]);
    }
    // Defines members, so that `__proto__` is one like any other, as with `JSON.parse`.
    return Object.fromEntries(members);
  };
  const read = (depth: number): Json => {
    const tag = whole(0xcc);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return map(tag & 15, deeper(depth));
    if (tag < 0xa0) return list(tag & 15, deeper(depth));
    if (tag < 0xc0) return string(tag & 31);
    if (tag >= 0xe0) return tag - 256;
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xca: return view.getFloat32(take(4));
      case 0xcb: return view.getFloat64(take(8));
      case 0xcc: case 0xcd: case 0xce: case 0xcf: case 0xd0: case 0xd1: case 0xd2: case 0xd3: return whole(tag);
      case 0xd9: case 0xda: case 0xdb: return string(whole(tag - 0xd9 + 0xcc));
      case 0xdc: case 0xdd: return list(whole(tag - 0xdc + 0xcd), deeper(depth));
      case 0xde: case 0xdf: return map(whole(tag - 0xde + 0xcd), deeper(depth));
      default: return refuse(`no JSON type, 0x${tag.toString(16)},`);
    }
  };
  const message = read(0);
  return at < frame.byteLength ? refuse('more than one value') : message;
}

const decode = (frame: string | ArrayBuffer): unknown =>
  typeof frame === 'string' ? json.decode(frame) : unpack(frame);

/**
 * MessagePack both ways: smaller than JSON, mostly for numbers. A message means exactly what `JSON.stringify` would make of it:
 * members that are `undefined` are left out, a `Date` is its text. Whole numbers beyond 2⁵³ lose their last digits, as with
 * `JSON.parse`. What is read must be one whole value of the types that JSON has, at most 64 deep; anything else throws.
 */
export const msgpack: Codec = {
  protocol: 'pulsewire.msgpack',
  encode(message) {
    const plain: Json = JSON.parse(JSON.stringify(message));
    return pack(plain);
  },
  decode,
};

/** JSON, and MessagePack where the server sends it: for subscriptions with `compression` on a JSON connection (R26). */
export const compressed: Codec = { ...json, decode };
