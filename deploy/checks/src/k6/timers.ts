// `k6/timers`.
import { vu } from './vu.js';

export type TimeoutID = { readonly clear: () => void };
export type IntervalID = TimeoutID;

export function setTimeout(call: (...values: unknown[]) => void, delay: number, ...values: unknown[]): TimeoutID {
  const user = vu();
  const clear = (): void => {
    globalThis.clearTimeout(timer);
    end();
  };
  const end = user.begin(clear);
  const timer = globalThis.setTimeout(() => {
    try {
      user.enter(() => call(...values));
    } finally {
      end();
    }
  }, delay);
  return { clear };
}

export function setInterval(call: (...values: unknown[]) => void, delay: number, ...values: unknown[]): IntervalID {
  const user = vu();
  const clear = (): void => {
    globalThis.clearInterval(timer);
    end();
  };
  const end = user.begin(clear);
  const timer = globalThis.setInterval(() => user.enter(() => call(...values)), delay);
  return { clear };
}

export function clearTimeout(timer: TimeoutID): void {
  timer.clear();
}

export const clearInterval = clearTimeout;
