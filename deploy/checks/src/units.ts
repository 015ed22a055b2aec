// Texts with units, as settings and manifests write them.

const SECONDS: { readonly [unit: string]: number } = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86_400 };
const BYTES: { readonly [unit: string]: number } = {
  '': 1, B: 1, Ki: 1024, KiB: 1024, Mi: 1024 ** 2, MiB: 1024 ** 2, Gi: 1024 ** 3, GiB: 1024 ** 3,
};

/** `1m30s` or `500ms`, in seconds. */
export function seconds(text: string): number {
  const parts = [...text.matchAll(/(\d+)(ms|s|m|h|d)/g)];
  if (parts.length === 0 || parts.map(([part]) => part).join('') !== text) throw new Error(`no duration: ${text}`);
  return parts.reduce((sum, [, number, unit = '']) => sum + Number(number) * (SECONDS[unit] ?? Number.NaN), 0);
}

/** `64KiB` or `1Gi`, in bytes. */
export function size(text: string): number {
  const [, number, unit = ''] = /^(\d+)([KMG]i?B?|B?)$/.exec(text) ?? [];
  const factor = BYTES[unit];
  if (number === undefined || factor === undefined) throw new Error(`no size: ${text}`);
  return Number(number) * factor;
}
