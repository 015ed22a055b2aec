/** Turns messages into frames and back. */
export interface Codec {
  /** The WebSocket subprotocol that asks the server for it. */
  readonly protocol: 'pulsewire.json' | 'pulsewire.msgpack';
  encode(message: unknown): string | Uint8Array<ArrayBuffer>;
  /** Throws on anything that is not one whole message. */
  decode(frame: string | ArrayBuffer): unknown;
}

/** The default. A binary frame, which only `compression` brings, is more than it can read. */
export const json: Codec = {
  protocol: 'pulsewire.json',
  encode: (message) => JSON.stringify(message),
  decode: (frame) => JSON.parse(frame as string) as unknown,
};
