import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Result } from 'axe-core';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';
import { launchOptions } from '../../sdk/typescript/test/chromium.js';

/** Where screenshots go, to be looked at, not compared; none are taken where nothing is said. */
const SHOTS = process.env['PULSEWIRE_SHOTS'];

/** One browser for a file of tests. */
export interface Lab {
  /** Opens an address in a context of its own, which {@link check} closes. */
  open(url: string, options?: BrowserContextOptions): Promise<Page>;
  /** What the pages did wrong since the last `check`, which also closes them. A test expects it to be empty. */
  check(): Promise<readonly string[]>;
  close(): Promise<void>;
}

export async function startLab(): Promise<Lab> {
  const browser: Browser = await chromium.launch(launchOptions());
  let problems: string[] = [];
  if (SHOTS) await mkdir(SHOTS, { recursive: true });
  return {
    async open(url, options) {
      const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
      const page = await context.newPage();
      page.setDefaultTimeout(15_000);
      page.on('pageerror', (error) => problems.push(`error: ${error.stack ?? error.message}`));
      page.on('console', (message) => {
        // What a server refuses, and that it is away, is for the page to show; what the policy refuses is a fault of the page.
        if (message.type() === 'error' && !/^(Failed to load resource|WebSocket connection to)/.test(message.text())) problems.push(`console: ${message.text()}`);
      });
      await page.goto(url);
      return page;
    },
    async check() {
      for (const context of browser.contexts()) await context.close();
      const found = problems;
      problems = [];
      return found;
    },
    close: () => browser.close(),
  };
}

const axeSource = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

declare global {
  // In the page, once `audit` has run there.
  var axe: typeof import('axe-core');
}

/** Violations of WCAG 2.0 to 2.2, A and AA, each as its rule and where it is broken. */
export async function audit(page: Page): Promise<readonly string[]> {
  await page.evaluate(axeSource);
  const violations = await page.evaluate(async (): Promise<readonly Result[]> => {
    const { violations: found } = await globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] });
    return found;
  });
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${JSON.stringify(node.target)} ${node.failureSummary ?? ''}`));
}

/** Keeps a picture of the whole page where pictures are kept. */
export async function keep(page: Page, name: string, fullPage = true): Promise<void> {
  if (SHOTS) await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage });
}

/**
 * Looks at a page light and dark, 1280 and 390 pixels wide: nothing wider than the window, and a picture of each to be
 * looked at. Light and wide, and dark and narrow, it has no violation of accessibility. `ready` is there once the page shows what it
 * is about.
 */
export async function looks(lab: Lab, name: string, url: string, ready: string): Promise<void> {
  const page = await lab.open(url);
  await page.locator(ready).first().waitFor();
  for (const width of [1280, 390]) {
    // As high as the page, so that charts below are drawn too.
    await page.setViewportSize({ width, height: 860 });
    const height = await page.evaluate(() => document.documentElement.scrollHeight);
    await page.setViewportSize({ width, height: Math.min(Math.max(height, 860), 4000) });
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      await expect.poll(() => page.locator('.chart-box:not([data-lines])').count()).toBe(0);
      await keep(page, `${name}-${colorScheme}-${width}`);
      // The audit takes longer than all else: each theme and each width is in one of two.
      if ((width === 1280) === (colorScheme === 'light')) expect(await audit(page), `${name} ${colorScheme} ${width}`).toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth), `${name} ${width} wide`).toBeLessThanOrEqual(width);
    }
  }
  await page.context().close();
}
