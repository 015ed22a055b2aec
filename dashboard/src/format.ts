import type { Unit } from './api.js';

/** What stands where nothing was measured. */
export const NOTHING = '–';

/** Three digits that count, and no more behind the point than are worth reading. */
function short(value: number): string {
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return grouped(Math.round(value));
  return String(Number(value.toFixed(size >= 10 ? 1 : 2)));
}

/** Groups of three digits. Thousands of numbers a second are shown, for which `Intl` is slow. */
function grouped(value: number): string {
  const digits = String(value);
  return Math.abs(value) < 1000 ? digits : digits.replace(/\B(?=(\d{3})+$)/g, ',');
}

/** `4,812`, `12.3k`, `1.2M`. */
export function count(value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  if (Math.abs(value) >= 1e6) return `${short(value / 1e6)}M`;
  return Math.abs(value) >= 1e5 ? `${short(value / 1e3)}k` : short(value);
}

/** Powers of a thousand, as the server says them: `812 kB`. */
export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  const names = ['B', 'kB', 'MB', 'GB', 'TB'];
  let size = value;
  let step = 0;
  while (Math.abs(size) >= 1000 && step < names.length - 1) {
    size /= 1000;
    step++;
  }
  return `${short(size)} ${names[step]}`;
}

/** `0.4 ms`, `612 ms`, `5.4 s`, then as {@link duration}. */
export function milliseconds(value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  if (value < 1000) return `${short(value)} ms`;
  return value < 60_000 ? `${short(value / 1000)} s` : duration(value / 1000);
}

/** The two largest parts: `42 s`, `2 m 10 s`, `3 h 5 m`, `6 d 2 h`. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return NOTHING;
  const all = Math.max(0, Math.floor(seconds));
  const parts: [number, string][] = [
    [Math.floor(all / 86_400), 'd'], [Math.floor(all / 3600) % 24, 'h'], [Math.floor(all / 60) % 60, 'm'], [all % 60, 's'],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return '0 s';
  return parts.slice(first, first + 2).filter(([value]) => value > 0).map(([value, name]) => `${value} ${name}`).join(' ');
}

/** A share of 0 to 1 as `98 %`. */
export function share(value: number | null | undefined): string {
  return value === null || value === undefined ? NOTHING : percent(value * 100);
}

export function percent(value: number | null | undefined): string {
  return value === null || value === undefined ? NOTHING : `${short(value)} %`;
}

export function rate(value: number | null | undefined): string {
  return value === null || value === undefined ? NOTHING : `${count(value)}/s`;
}

/** A value with its unit, as the server names units. */
export function inUnit(value: number | null | undefined, unit: Unit | string): string {
  switch (unit) {
    case 'ms': return milliseconds(value);
    case 's': return value !== null && value !== undefined && value < 60 ? `${short(value)} s` : duration(value);
    case 'bytes': return bytes(value);
    case 'percent': return percent(value);
    case 'per_second': return rate(value);
    case 'bytes_per_second': return value === null || value === undefined ? NOTHING : `${bytes(value)}/s`;
    default: return count(value);
  }
}

/** `12 s ago`. */
export function ago(at: number, now: number): string {
  const seconds = Math.max(0, Math.floor((now - at) / 1000));
  return seconds === 0 ? 'just now' : `${duration(seconds)} ago`;
}

const pad = (value: number, digits = 2): string => String(value).padStart(digits, '0');

/** The time of day in the reader's time zone, with milliseconds if asked. */
export function clockTime(at: number, exact = false): string {
  const date = new Date(at);
  const text = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return exact ? `${text}.${pad(date.getMilliseconds(), 3)}` : text;
}

/** Day and time in the reader's time zone. */
export function fullTime(at: number): string {
  const date = new Date(at);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clockTime(at)}`;
}

/** A word of the server's in words: `client_not_reading` as `client not reading`. */
export function words(name: string): string {
  return name.replaceAll('_', ' ');
}

/** The end of a session's id, which tells it apart; its beginning is the time. */
export function shortId(id: string): string {
  return id.length > 10 ? `…${id.slice(-8)}` : id;
}

/** `1 connection`, `2 connections`. */
export function plural(number: number, one: string, many = `${one}s`): string {
  return `${count(number)} ${number === 1 ? one : many}`;
}
