import type { Status } from '@pulsewire/client';

/** How long "Reconnected" stands, in milliseconds. */
const RECONNECTED_MS = 10_000;
/** How long an outage lasts before it is called lost where no client says so, in milliseconds. */
const LOST_MS = 5_000;
/** How long a status lasts before it is announced, so that a quick reconnect is not; in milliseconds. */
const ANNOUNCE_MS = 1_000;

/**
 * What {@link Memory} says of a moment: the status of the last look; whether to say "Reconnected" instead of "Connected"; whether
 * the outage is long enough to be told (a bar shows it, and for a while that it is over); whether the status is to be announced
 * now; and whether to look again in a second, because something may have to change by itself.
 */
export type Moment = readonly [from: Status | undefined, reconnected: boolean, lost: boolean, announce: boolean, tick: boolean];

/** Remembers what a connection was like, because that decides what is said of it now. */
export interface Memory {
  /** The connection is lost. */
  lose(): void;
  /** Looks at a status; `now` is in milliseconds since 1970. */
  look(status: Status, now: number): Moment;
}

/** @param told whether {@link Memory.lose} will be called when the connection is lost; else five seconds decide. */
export function remember(told: boolean): Memory {
  let from: Status | undefined;
  let since = 0;
  let ever = false;
  let again = false;
  let lost = false;
  // A connection that works from the start is not worth a word.
  let announced: Status = 'connected';
  return {
    lose() {
      lost = true;
    },
    look(status, now) {
      const before = from;
      const connected = status === 'connected';
      if (status !== from) {
        again = ever;
        ever ||= connected;
        from = status;
        since = now;
      }
      const lasted = now - since;
      const tick = lasted < RECONNECTED_MS;
      const reconnected = connected && again && tick;
      // Whoever looks for the first time during an outage was not told of it.
      const silent = status === 'reconnecting' ? !told || !ever : status === 'disconnected' && !told;
      lost = connected ? lost && reconnected : status !== 'polling' && (lost || (silent && lasted >= LOST_MS));
      const announce = lasted >= ANNOUNCE_MS && status !== announced && status !== 'idle';
      if (announce) announced = status;
      return [before, reconnected, lost, announce, tick];
    },
  };
}
